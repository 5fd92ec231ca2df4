// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the error codes of NVIDIA's driver (Xid) stand for, and which one of a group is the cause.
//!
//! The facts are those of NVIDIA's public Xid catalogue. An unknown code is no error: it tells nothing.

use super::cause::Cause;

/// What one Xid line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xid {
    pub cause: Cause,
    /// How early it stands in the order of causes within one fault, 0 first.
    pub rank: u8,
}

/// Codes in the order in which they cause each other, with the cause that each one stands for.
const ORDER: &[(&[u16], Cause)] = &[
    (&[79], Cause::GpuHardwareFault),
    (&[48, 171, 172], Cause::GpuHardwareFault),
    (&[95], Cause::GpuHardwareFault),
    (&[94], Cause::GpuHardwareFault),
    (&[64], Cause::GpuHardwareFault),
    (&[140], Cause::GpuHardwareFault),
    (&[62, 169], Cause::GpuHardwareFault),
    (&[119, 120], Cause::GpuHardwareFault),
    (&[74, 144, 145, 146, 147, 148, 149, 150], Cause::GpuHardwareFault),
    (&[136, 155, 156, 158, 159, 167, 54], Cause::GpuHardwareFault),
    (&[143, 78, 151, 166, 170], Cause::GpuUnavailable),
    (&[110], Cause::GpuHardwareFault),
    // A bad access comes before the context switch that then times out.
    (&[31, 13, 32, 69, 11, 25, 80], Cause::GpuProgramFault),
    (&[109, 46, 168, 157], Cause::GpuHardwareFault),
    (
        &[
            39, 40, 41, 70, 71, 72, 75, 76, 77, 85, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 60, 68, 82, 83,
            84, 86, 88, 89, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 139, 142,
        ],
        Cause::GpuProgramFault,
    ),
    (&[43, 8, 44], Cause::GpuProgramFault),
    // From here on a code is no cause of its own.
    (&[63, 92, 93, 121, 165], Cause::NoCrash),
    (&[37, 38, 66, 67, 106, 107, 137, 141, 152, 153, 160, 161, 162, 163, 164], Cause::NoCrash),
    (&[45], Cause::NoCrash),
];

/// The rank of "the recovery action changed", which tells what to do and never why.
const RECOVERY: u8 = 50;

/// What the line with this code tells; `words` is the whole line.
pub fn xid(code: u16, words: &str) -> Option<Xid> {
    if code == 154 {
        let asks = ["reset required", "reboot required", "drain"];
        let words = words.to_ascii_lowercase();
        let target = words.rsplit_once(" to ").map_or(words.as_str(), |(_, target)| target);
        let cause = if asks.iter().any(|ask| target.contains(ask)) { Cause::GpuHardwareFault } else { Cause::NoCrash };
        return Some(Xid { cause, rank: RECOVERY });
    }
    // Newer drivers name the code that this clean-up follows from.
    if code == 45
        && let Some((_, previous)) = words.split_once("previous Xid ")
        && let Some(found) = previous.split(|c: char| !c.is_ascii_digit()).next().and_then(|code| code.parse().ok())
        && found != 45
    {
        return xid(found, words);
    }
    let at = ORDER.iter().position(|(codes, _)| codes.contains(&code))?;
    let rank = u8::try_from(at).unwrap_or(u8::MAX);
    let nonfatal = (144..=150).contains(&code) && words.contains("Nonfatal");
    let cause = if nonfatal { Cause::NoCrash } else { ORDER[at].1 };
    Some(Xid { cause, rank: if nonfatal { RECOVERY - 1 } else { rank } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(code: u16, words: &str) -> Option<Cause> {
        xid(code, words).map(|xid| xid.cause)
    }

    #[test]
    fn codes_are_read_with_the_words_beside_them() {
        assert_eq!(cause(79, ""), Some(Cause::GpuHardwareFault));
        assert_eq!(cause(13, ""), Some(Cause::GpuProgramFault));
        assert_eq!(cause(63, ""), Some(Cause::NoCrash));
        assert_eq!(cause(145, "145, RLW_CTRL Nonfatal XC0 i0 Link 02"), Some(Cause::NoCrash));
        assert_eq!(cause(149, "149, NETIR_LINK_EVT Fatal XC0 i0 Link 02"), Some(Cause::GpuHardwareFault));
        let changed = "154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)";
        assert_eq!(cause(154, changed), Some(Cause::GpuHardwareFault));
        let back = "154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)";
        assert_eq!(cause(154, back), Some(Cause::NoCrash));
        assert_eq!(cause(45, "45, pid=7, name=a, Ch 00000001"), Some(Cause::NoCrash));
        assert_eq!(
            cause(45, "45, pid=7, name=a, Ch 00000001 caused by previous Xid 149"),
            Some(Cause::GpuHardwareFault)
        );
        assert_eq!(cause(7, ""), None);
    }

    #[test]
    fn the_bus_comes_before_the_memory_and_the_program_before_its_time_out() {
        let rank = |code| xid(code, "").map(|xid| xid.rank);
        assert!(rank(79) < rank(48));
        assert!(rank(48) < rank(94));
        assert!(rank(13) < rank(109));
        assert!(rank(31) < rank(43));
        assert!(rank(43) < rank(45));
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<u16> = ORDER.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzz targets look at, a little of it with every test run: the same few thousand inputs each time.
//!
//! `make fuzz` goes on from here with libFuzzer, which finds its way by coverage.

mod configuration;
mod progress;
mod rows;

use crate::histories::dice::Dice;
use std::panic::catch_unwind;

/// Changes one of the seeds here and there.
fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |dice: &mut Dice| seeds[dice.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(dice);
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        let end = (at + dice.below(12) as usize).min(bytes.len());
        match dice.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, dice.next() as u8),
            2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << dice.below(8)),
            3 => bytes.extend_from_within(at..end),
            4 => {
                let digits = ["0", "-1", "18446744073709551616", "1e400", "9".repeat(400).as_str()].map(str::to_owned);
                bytes.splice(at..end, digits[dice.below(5) as usize].bytes());
            }
            5 => {
                let words =
                    ["\"", "'", "[", "]", "{", "}", "=", "\n", "\0", "\u{feff}", "é", "\\", "..", "%", "*", " "];
                bytes.splice(at..at, words[dice.below(16) as usize].bytes());
            }
            _ => {
                let other = pick(dice);
                let from = dice.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

/// Looks at so many inputs; a panic names the one that led to it.
fn look_at(count: u64, seeds: &[Vec<u8>], look: fn(&[u8])) {
    seeds.iter().for_each(|seed| look(seed));
    for seed in 1..=count {
        let bytes = mutated(&mut Dice::new(seed), seeds);
        let looked = catch_unwind(|| look(&bytes));
        assert!(looked.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn any_text_is_a_configuration_or_has_complaints() {
    let samples =
        [include_str!("../../packaging/watcherd.toml"), include_str!("../../packaging/workers.d/example.toml.sample")];
    // What is shown as a comment is a setting.
    let set = |text: &str| -> Vec<u8> {
        let lines =
            text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    };
    let short = "[worker]\nunit = \"w\"\n[restart]\nbudget = \"3/1h\"\nback-off = \"1s..5min\"\nthen = [\"a\", \"b\"]\n\
        [cause.disk-full]\naction = \"hold\"\nuntil = \"free(/srv) > 50G\"\n[cause.gpu-oom]\nscale = { B = \"x0.5, min 1\" }\n\
        [parameters]\nB = { default = 64, range = [1, 512] }\n[progress]\nstalled-when = \"a == 0 and b > 1\"\n";
    let mut seeds: Vec<Vec<u8>> = samples.into_iter().map(set).collect();
    seeds.extend([short.as_bytes().to_vec(), short.as_bytes().to_vec()]);
    look_at(2000, &seeds, configuration::look);
}

#[test]
fn any_bytes_are_progress_or_an_error() {
    let seeds = [
        "\u{0}42\n",
        "\u{1}120/500",
        "\u{2}step=12\ntotal = 40\n# x=1\nphase: fit\n",
        "\u{3}{\"train\": {\"step\": 7, \"of\": [9, \"3/4\"]}, \"cursor\": \"a-b\", \"loss\": 0.5, \"stage\": null}",
        "\u{4}step (\\d+)/(\\d+) (?P<loss>[0-9.]+)\nstep 12/40 0.25\nstep 99999999999999999999/0 nan",
        "\u{5}epoch 3, step 12 / 40 (loss 0.25)",
    ];
    look_at(4000, &seeds.map(|seed| seed.as_bytes().to_vec()), progress::look);
}

#[test]
fn any_row_costs_that_row_at_most() {
    // The same column of every table and row becomes a number, or a word.
    let values = (0..rows::NUMBERS.len()).map(|at| [1, at as u8]).chain((0..rows::WORDS.len()).map(|at| [2, at as u8]));
    let all = |column: u8, value: [u8; 2]| -> Vec<u8> {
        (0..21).flat_map(|at| [at % 7, column, at / 7, value[0], value[1]]).collect()
    };
    let seeds: Vec<_> = values.flat_map(|value| (0..21).map(move |column| all(column, value))).collect();
    look_at(300, &seeds, rows::look);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds which of thousands of literals stand in a text, whatever the case of their ASCII letters.
//!
//! Of each literal two grams, one byte apart, are chosen that are rare in lines of every day, and set in a table of bits
//! that stays in the processor's second cache. In a text every second gram is looked up there; one of a literal's two
//! always is among them. What passes is looked up once more with more bytes, and only then literals are compared.
//!
//! An automaton (Aho-Corasick) over the literals of the packaged rules needs a table of 50 MB to be quick, which takes
//! longer to make than this takes for a million lines; and each of its steps waits for the one before.

/// So many bytes are looked up first; and so many of a literal that has them.
const GRAM: usize = 4;
const LONG_GRAM: usize = 7;
/// From one place where a gram is looked up to the next, in bytes.
const STRIDE: usize = 2;
/// A shorter literal is not found: too little of it lies within a gram.
pub const SHORTEST: usize = GRAM - 1;

/// A table of bits has two to the power of so many: 128 KiB.
const BITS: u32 = 20;
/// The literals behind the bits lie in two to the power of so many buckets.
const BUCKETS: u32 = 12;
/// So do the counts of groups of three bytes.
const COUNTS: u32 = 14;
/// The bit that makes ASCII letters lower-case, in each byte.
const LOWER: u64 = 0x2020_2020_2020_2020;

pub struct Sieve {
    literals: Vec<Vec<u8>>,
    grams: Bits,
    /// The grams of literals that have no long ones.
    short: Bits,
    long: Bits,
    /// The literals that have a gram for each place, by that.
    whole: Buckets,
    /// The others, by their first [`SHORTEST`] bytes.
    parts: Buckets,
}

/// Which literal may lie around a place.
#[derive(Clone, Copy)]
struct Entry {
    /// What the text must have from that place on.
    word: u64,
    /// The bits of it that count.
    mask: u64,
    literal: usize,
    /// So many bytes before the place the literal begins.
    before: usize,
    /// So many bytes after its begin its last byte is.
    end: usize,
    last: u8,
}

/// Entries by a hash of what they begin with, one bucket after another.
struct Buckets {
    /// Where each bucket begins, and where the last one ends.
    begins: Vec<usize>,
    entries: Vec<Entry>,
}

/// A set of numbers that sometimes says yes to another one. Its size is fixed, so that no look-up asks for it.
struct Bits(Box<[u64; 1 << (BITS - 6)]>);

/// How often groups of three bytes stand in lines of every day.
pub struct Everyday(Vec<u16>);

impl Sieve {
    /// Makes one for literals in lower case, each of at least [`SHORTEST`] bytes.
    pub fn new(literals: Vec<Vec<u8>>, everyday: &Everyday) -> Sieve {
        let (mut grams, mut short, mut long) = (Bits::new(), Bits::new(), Bits::new());
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        for (literal, text) in literals.iter().enumerate() {
            if text.len() <= GRAM {
                let entry = Entry::of(literal, text, 0);
                for any in (0..=0xff).filter(|any| any & LOWER != 0) {
                    // The literal lies at the place, or a byte after it.
                    for gram in [entry.word | any << 24 & !entry.mask, entry.word << 8 | any] {
                        grams.set(first_bytes(gram));
                        short.set(short_gram(gram));
                    }
                }
                parts.push(entry);
                continue;
            }
            let is_long = text.len() > LONG_GRAM;
            let room = if is_long { LONG_GRAM } else { GRAM } + STRIDE - 1;
            let cost = |begin: &usize| {
                let both = (*begin..begin + STRIDE).map(|at| word(text, at));
                // Of those that are about as rare a gram is cheaper that is looked for in any case.
                both.map(|word| everyday.count(word) * 4 + u32::from(!grams.has(first_bytes(word)))).sum::<u32>()
            };
            let begin = (0..=text.len() - room).min_by_key(cost).unwrap_or(0);
            for at in begin..begin + STRIDE {
                let entry = Entry::of(literal, text, at);
                grams.set(first_bytes(entry.word));
                match is_long {
                    true => long.set(long_gram(entry.word)),
                    false => short.set(short_gram(entry.word)),
                }
                whole.push(entry);
            }
        }
        let (whole, parts) = (Buckets::new(whole, first_bytes), Buckets::new(parts, first_part));
        Sieve { literals, grams, short, long, whole, parts }
    }

    /// A place within the first literal that lies wholly at or after `from`.
    pub fn first(&self, text: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while let Some(suspect) = self.suspect(text, at) {
            let mut found = false;
            self.around(text, suspect, |begin, _| found |= begin >= from);
            if found {
                return Some(suspect + 1);
            }
            at = suspect + STRIDE;
        }
        None
    }

    /// Gives every literal in the text to `take`, some more than once.
    pub fn each(&self, text: &[u8], mut take: impl FnMut(usize)) {
        let mut at = 0;
        while let Some(suspect) = self.suspect(text, at) {
            self.around(text, suspect, |_, literal| take(literal));
            at = suspect + STRIDE;
        }
    }

    /// The first place at or after `from`, in steps of [`STRIDE`], whose grams are set.
    fn suspect(&self, text: &[u8], from: usize) -> Option<usize> {
        const STEPS: usize = 4;
        const BYTES: usize = (STEPS - 1) * STRIDE + size_of::<u64>();
        let mut at = from;
        while let Some(bytes) = text.get(at..).and_then(|rest| rest.first_chunk::<BYTES>()) {
            let words: [u64; STEPS] =
                std::array::from_fn(|step| bytes[step * STRIDE..].first_chunk().map_or(0, |word| lower(*word)));
            // All of them, and one branch.
            if words.iter().fold(false, |any, word| any | self.grams.has(first_bytes(*word)))
                && let Some(step) = words.iter().position(|word| self.may_be(*word))
            {
                return Some(at + step * STRIDE);
            }
            at += STEPS * STRIDE;
        }
        (at..text.len().saturating_sub(SHORTEST - 1)).step_by(STRIDE).find(|at| self.may_be(word(text, *at)))
    }

    fn may_be(&self, word: u64) -> bool {
        self.grams.has(first_bytes(word)) && (self.long.has(long_gram(word)) || self.short.has(short_gram(word)))
    }

    /// Gives the literals around a place to `take`, each after where it begins.
    fn around(&self, text: &[u8], at: usize, mut take: impl FnMut(usize, usize)) {
        let word = word(text, at);
        let mut compare = |entries: &[Entry], word: u64, at: usize| {
            for entry in entries.iter().filter(|entry| (word ^ entry.word) & entry.mask == 0) {
                let Some(begin) = at.checked_sub(entry.before) else { continue };
                let same_end = text.get(begin + entry.end).is_some_and(|last| last.eq_ignore_ascii_case(&entry.last));
                if same_end && text[begin..=begin + entry.end].eq_ignore_ascii_case(&self.literals[entry.literal]) {
                    take(begin, entry.literal);
                }
            }
        };
        compare(self.whole.of(first_bytes(word)), word, at);
        if self.short.has(short_gram(word)) {
            compare(self.parts.of(first_part(word)), word, at);
            compare(self.parts.of(first_part(word >> 8)), word >> 8, at + 1);
        }
    }
}

impl Entry {
    fn of(literal: usize, text: &[u8], at: usize) -> Entry {
        let bytes = (text.len() - at).min(size_of::<u64>());
        let mask = u64::MAX >> (u64::BITS as usize - 8 * bytes);
        let end = text.len() - 1;
        Entry { word: word(text, at) & mask, mask, literal, before: at, end, last: text[end] }
    }
}

impl Buckets {
    fn new(mut entries: Vec<Entry>, part: fn(u64) -> u64) -> Buckets {
        let bucket = |entry: &Entry| spread::<BUCKETS>(part(entry.word));
        entries.sort_by_key(bucket);
        let begins = (0..=1 << BUCKETS).map(|at| entries.partition_point(|entry| bucket(entry) < at)).collect();
        Buckets { begins, entries }
    }

    /// The entries that begin with this part, and some others.
    fn of(&self, part: u64) -> &[Entry] {
        let bucket = spread::<BUCKETS>(part);
        &self.entries[self.begins[bucket]..self.begins[bucket + 1]]
    }
}

impl Bits {
    fn new() -> Bits {
        Bits(Box::new([0; _]))
    }

    #[inline(always)]
    fn has(&self, number: u64) -> bool {
        let at = spread::<BITS>(number);
        self.0[at >> 6] >> (at & 63) & 1 != 0
    }

    fn set(&mut self, number: u64) {
        let at = spread::<BITS>(number);
        self.0[at >> 6] |= 1 << (at & 63);
    }
}

impl Everyday {
    pub fn new() -> Everyday {
        Everyday(vec![0; 1 << COUNTS])
    }

    /// Reads a line of every day.
    pub fn read(&mut self, line: &[u8]) {
        for at in 0..line.len().saturating_sub(2) {
            let count = &mut self.0[spread::<COUNTS>(first_part(word(line, at)))];
            *count = count.saturating_add(1);
        }
    }

    fn count(&self, gram: u64) -> u32 {
        [gram, gram >> 8].into_iter().map(|part| u32::from(self.0[spread::<COUNTS>(first_part(part))])).sum()
    }
}

/// The eight bytes at a place, the first one lowest. What lies after the end of the text does not matter.
fn word(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk() {
        return lower(*bytes);
    }
    let mut bytes = [0; size_of::<u64>()];
    bytes[..rest.len()].copy_from_slice(rest);
    lower(bytes)
}

/// Letters in lower case: what that does to other bytes it does to those of literals, too.
#[inline(always)]
fn lower(bytes: [u8; size_of::<u64>()]) -> u64 {
    u64::from_le_bytes(bytes) | LOWER
}

/// The first [`GRAM`] bytes.
#[inline(always)]
fn first_bytes(word: u64) -> u64 {
    word & 0xffff_ffff
}

/// The same in another form: what only seems to be in one set should not seem to be in the other.
#[inline(always)]
fn short_gram(word: u64) -> u64 {
    word << 32
}

/// The first [`LONG_GRAM`] bytes.
#[inline(always)]
fn long_gram(word: u64) -> u64 {
    word << 8
}

/// The first [`SHORTEST`] bytes.
fn first_part(word: u64) -> u64 {
    word & 0x00ff_ffff
}

/// A number below two to the power of `SIZE`.
#[inline(always)]
fn spread<const SIZE: u32>(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SIZE)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::Dice;

    /// The slow way.
    fn stands(text: &[u8], literal: &[u8]) -> bool {
        text.windows(literal.len()).any(|part| part.eq_ignore_ascii_case(literal))
    }

    #[test]
    fn it_finds_the_literals_that_a_search_for_each_one_finds() {
        // Few letters, so that much is found, and of every length on both sides of each border.
        const LETTERS: &[u8] = b"ab0[ {\n\xe9";
        let mut hits = 0;
        for seed in 1..=60 {
            let mut dice = Dice(seed);
            let mut some = |most: usize, least: usize| {
                let size = least + dice.next() % most;
                (0..size).map(|_| LETTERS[dice.next() % LETTERS.len()]).collect::<Vec<u8>>()
            };
            let mut literals: Vec<Vec<u8>> = (0..40).map(|_| some(9, SHORTEST)).collect();
            literals.sort();
            literals.dedup();
            let mut everyday = Everyday::new();
            everyday.read(&some(50, 0));
            let sieve = Sieve::new(literals.clone(), &everyday);
            for _ in 0..200 {
                let mut text = some(60, 0);
                text.iter_mut().step_by(3).for_each(u8::make_ascii_uppercase);
                let mut found = Vec::new();
                sieve.each(&text, |literal| found.push(literal));
                found.sort_unstable();
                found.dedup();
                let expected = |from: usize| {
                    let text = &text[from..];
                    (0..literals.len()).filter(|at| stands(text, &literals[*at])).collect::<Vec<_>>()
                };
                assert_eq!(found, expected(0), "{:?}", text.escape_ascii().to_string());
                hits += found.len();
                for from in 0..text.len() {
                    let first = sieve.first(&text, from);
                    assert_eq!(first.is_some(), !expected(from).is_empty(), "{from}");
                    assert!(first.is_none_or(|at| at >= from && at < text.len()));
                }
            }
        }
        assert!(hits > 1_000, "{hits}");
    }

    #[test]
    fn without_literals_it_finds_nothing() {
        let sieve = Sieve::new(Vec::new(), &Everyday::new());
        assert_eq!(sieve.first(&[0; 1000], 0), None);
        sieve.each(b"anything", |_| panic!("there is none"));
    }
}

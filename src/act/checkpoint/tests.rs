// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files as trainings write them, whole and not, made on the spot.

use super::*;
use crate::engine::policy::CommandLine;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Shelf {
        Shelf(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Written at that second.
    fn put(&self, name: &str, content: &[u8], at: u64) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, content).expect("written");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + at);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("dated");
    }

    fn pattern(&self) -> String {
        format!("{}/*", self.path().display())
    }

    fn look(&self, verify: &Verify) -> Report {
        look(&self.pattern(), verify, Instant::now() + Duration::from_secs(60)).expect("it can be looked at")
    }

    /// Name, state and reason of each, the newest first.
    fn told(&self, verify: &Verify) -> Vec<String> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let told = self.look(verify).checkpoints.into_iter();
        told.map(|one| format!("{} {} {}", name(&one.path), one.state.as_str(), one.why).trim_end().to_owned())
            .collect()
    }
}

fn judged(name: &str, content: &[u8]) -> String {
    let shelf = Shelf::new();
    shelf.put(name, content, 0);
    let found = shelf.look(&Verify::Auto).checkpoints.remove(0);
    format!("{} {} {}", found.kind, found.state.as_str(), found.why).trim().to_owned()
}

fn le(number: u64, width: usize) -> Vec<u8> {
    number.to_le_bytes()[..width].to_vec()
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [le(header.len() as u64, 8), header.as_bytes().to_vec(), vec![7; data]].concat()
}

const HEADER: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;

/// As zipfile writes it, with stored files.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut list) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let at = archive.len() as u64;
        let sizes = [le(0, 4), le(content.len() as u64, 4), le(content.len() as u64, 4)].concat();
        let name_length = le(name.len() as u64, 2);
        archive.extend([b"PK\x03\x04".to_vec(), vec![0; 10], sizes.clone(), name_length.clone(), le(0, 2)].concat());
        archive.extend([name.as_bytes(), content].concat());
        list.extend([b"PK\x01\x02".to_vec(), vec![0; 12], sizes, name_length, vec![0; 12], le(at, 4)].concat());
        list.extend(name.as_bytes());
    }
    let (at, count) = (le(archive.len() as u64, 4), le(files.len() as u64, 2));
    archive.extend(&list);
    archive.extend(
        [b"PK\x05\x06".to_vec(), vec![0; 4], count.clone(), count, le(list.len() as u64, 4), at, le(0, 2)].concat(),
    );
    archive
}

fn pytorch() -> Vec<u8> {
    zip(&[("archive/data.pkl", b"\x80\x02}."), ("archive/data/0", &[7; 5_000]), ("archive/version", b"3\n")])
}

/// The same in the long form, as archives of more than 4 GiB have it.
fn zip64() -> Vec<u8> {
    let content = [7; 100];
    let name = "archive/data.pkl";
    let mut archive =
        [b"PK\x03\x04".to_vec(), vec![0; 10], vec![0xff; 12], le(name.len() as u64, 2), le(0, 2)].concat();
    archive.extend([name.as_bytes(), &content].concat());
    let at = archive.len() as u64;
    let extra = [le(1, 2), le(24, 2), le(100, 8), le(100, 8), le(0, 8)].concat();
    let lengths = [le(name.len() as u64, 2), le(extra.len() as u64, 2)].concat();
    let list =
        [b"PK\x01\x02".to_vec(), vec![0; 12], vec![0; 4], vec![0xff; 8], lengths, vec![0; 10], vec![0xff; 4]].concat();
    let list = [list, name.as_bytes().to_vec(), extra].concat();
    archive.extend(&list);
    let record = archive.len() as u64;
    archive.extend([b"PK\x06\x06".to_vec(), le(44, 8), vec![0; 12], le(1, 8), le(1, 8)].concat());
    archive.extend([le(list.len() as u64, 8), le(at, 8)].concat());
    archive.extend([b"PK\x06\x07".to_vec(), le(0, 4), le(record, 8), le(1, 4)].concat());
    archive.extend([b"PK\x05\x06".to_vec(), vec![0; 4], vec![0xff; 12], le(0, 2)].concat());
    archive
}

fn hdf5(version: u8, end: u64, flags: u8) -> Vec<u8> {
    let numbers = [le(0, 8), le(u64::MAX, 8), le(end, 8), le(u64::MAX, 8)].concat();
    let rest = match version {
        0 => [vec![0, 0, 0, 0, 0, 8, 8, 0], vec![0; 8], numbers].concat(),
        _ => [vec![version, 8, 8, flags], numbers].concat(),
    };
    let mut file = [b"\x89HDF\r\n\x1a\n".to_vec(), rest].concat();
    file.resize(200, 0);
    file
}

fn gguf(data: usize) -> Vec<u8> {
    let text = |text: &str| [le(text.len() as u64, 8), text.as_bytes().to_vec()].concat();
    let mut file = [b"GGUF".to_vec(), le(3, 4), le(1, 8), le(2, 8)].concat();
    file.extend([text("general.name"), le(8, 4), text("tiny")].concat());
    file.extend([text("tokens"), le(9, 4), le(8, 4), le(2, 8), text("a"), text("b")].concat());
    // 2 times 32 values of Q8_0 have 34 bytes each.
    file.extend([text("w"), le(2, 4), le(32, 8), le(2, 8), le(8, 4), le(0, 8)].concat());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(vec![7; data]);
    file
}

#[test]
fn whole_files_of_known_kinds_are_valid_and_truncated_ones_are_not() {
    let cut = |content: &[u8], by: usize| content[..content.len() - by].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a.safetensors", safetensors(HEADER, 12), "safetensors valid"),
        ("a.safetensors", safetensors(HEADER, 11), "safetensors broken 11 of 12 bytes of data are there"),
        ("a.safetensors", safetensors(HEADER, 13), "safetensors broken more data follows than its header speaks of"),
        ("a.safetensors", safetensors(HEADER, 12)[..50].to_vec(), "safetensors broken it ends within its header"),
        ("a.safetensors", vec![1, 2, 3], "safetensors broken it ends too early"),
        ("a.safetensors", vec![0xff; 100], "safetensors broken it ends within its header"),
        (
            "a.safetensors",
            safetensors(&HEADER.replace("[8,12]", "[9,12]"), 12),
            "safetensors broken its tensors do not follow one another",
        ),
        ("a.pt", pytorch(), "PyTorch valid"),
        ("a.bin", zip64(), "PyTorch valid"),
        ("a.bin", cut(&zip64(), 60), "PyTorch broken the end of the archive is missing"),
        ("a.pt", cut(&pytorch(), 1), "PyTorch broken the end of the archive is missing"),
        ("a.pt", pytorch()[..3_000].to_vec(), "PyTorch broken the end of the archive is missing"),
        ("a.pt", zip(&[("x", b"y")]), "PyTorch broken there is no data.pkl in it"),
        ("a.npz", zip(&[("x.npy", b"y")]), "NumPy valid"),
        ("a.pt", vec![0; 4_096], "PyTorch broken it begins with zeros"),
        ("a.pt", Vec::new(), "PyTorch broken it is empty"),
        ("a.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9".to_vec(), "pickle unknown a pickle does not say how long it is"),
        ("a.h5", hdf5(0, 200, 0), "HDF5 valid"),
        ("a.h5", hdf5(2, 200, 0), "HDF5 valid"),
        ("a.h5", hdf5(2, 201, 0), "HDF5 broken 200 of 201 bytes are there"),
        ("a.h5", hdf5(0, 4_000, 0), "HDF5 broken 200 of 4000 bytes are there"),
        ("a.h5", hdf5(3, 200, 1), "HDF5 broken its writer has not closed it"),
        ("a.h5", b"nothing like it".to_vec(), "HDF5 broken it does not begin as such a file does"),
        ("a.gguf", gguf(68), "GGUF valid"),
        ("a.gguf", gguf(67), "GGUF broken 67 of 68 bytes of data are there"),
        ("a.gguf", gguf(0)[..60].to_vec(), "GGUF broken it ends too early"),
        ("a.json", b"{\"step\": [1, 2]}\n".to_vec(), "JSON valid"),
        ("a.json", b"{\"step\": [1, 2".to_vec(), "JSON broken it ends too early"),
        ("a.json", b"[".repeat(1_000_000), "JSON broken it ends too early"),
        ("a.log", b"step 1".to_vec(), "unknown it is of no kind that can be verified"),
        ("a.done", Vec::new(), "unknown it is empty"),
        ("a.pt.tmp", pytorch(), "incomplete its name says that it was not written to the end"),
        ("tmp-checkpoint-5", pytorch(), "incomplete its name says that it was not written to the end"),
    ];
    for (name, content, expected) in cases {
        assert_eq!(judged(name, &content), expected, "{name}");
    }
}

#[test]
fn no_beginning_of_a_whole_file_is_valid() {
    let small = zip(&[("archive/data.pkl", b"\x80\x02}."), ("archive/data/0", &[7; 50])]);
    for (name, whole) in [("a.pt", small), ("a.safetensors", safetensors(HEADER, 12)), ("a.gguf", gguf(68))] {
        for length in 0..whole.len() {
            let verdict = judged(name, &whole[..length]);
            assert!(verdict.contains(" broken "), "{name} of {length} bytes: {verdict}");
        }
    }
}

#[test]
fn a_hole_in_an_archive_shows() {
    let mut archive = pytorch();
    // What never reached the disk.
    archive[..4_096].fill(0);
    assert_eq!(judged("a.pt", &archive), "PyTorch broken it begins with zeros");
    let mut archive = zip(&[("archive/data.pkl", &[1; 5_000]), ("archive/data/0", &[2; 5_000])]);
    archive[4_096..8_192].fill(0);
    assert_eq!(judged("a.pt", &archive), "PyTorch broken a file in it does not begin where it should");
}

#[test]
fn a_directory_is_valid_when_all_of_its_parts_are() {
    let shelf = Shelf::new();
    let part = safetensors(HEADER, 12);
    let index =
        br#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    for (at, name) in (0..).zip(["whole", "lacks", "torn", "zero"]) {
        shelf.put(&format!("{name}/model.safetensors.index.json"), index, at);
        shelf.put(&format!("{name}/model-00001-of-00002.safetensors"), &part, at);
        shelf.put(&format!("{name}/trainer_state.json"), b"{}", at);
    }
    shelf.put("whole/model-00002-of-00002.safetensors", &part, 0);
    shelf.put("torn/model-00002-of-00002.safetensors", &part[..20], 2);
    shelf.put("zero/model-00002-of-00002.safetensors", b"", 3);
    shelf.put("parts/pytorch_model-00001-of-00003.bin", &pytorch(), 4);
    shelf.put("parts/pytorch_model-00003-of-00003.bin", &pytorch(), 4);
    shelf.put("from-zero/rank-000-of-002.pt", &pytorch(), 5);
    shelf.put("from-zero/rank-001-of-002.pt", &pytorch(), 5);
    shelf.put("writing/model.safetensors.tmp", &part, 6);
    let sum = "0".repeat(64);
    shelf.put("sums/SHA256SUMS", format!("{sum}  ./model.safetensors\n{sum} *more/other.pt\n").as_bytes(), 7);
    shelf.put("sums/model.safetensors", &part, 7);
    shelf.put("notes/readme.txt", b"text", 8);
    fs::create_dir(shelf.path().join("empty")).expect("made");
    let told = shelf.told(&Verify::Auto);
    let expected = [
        "empty incomplete there is no file in it",
        "notes broken it has 4 bytes, less than half of the 10692 that older ones have",
        "sums broken more/other.pt is missing",
        "writing incomplete model.safetensors.tmp in it was not written to the end",
        "from-zero valid",
        "parts broken pytorch_model-00002-of-00003.bin is missing",
        "zero broken model-00002-of-00002.safetensors: it is empty",
        "torn broken model-00002-of-00002.safetensors: it ends within its header",
        "lacks broken model-00002-of-00002.safetensors is missing",
        "whole valid",
    ];
    assert_eq!(told, expected);
}

#[test]
fn hostile_entries_neither_hang_nor_mislead() {
    let shelf = Shelf::new();
    shelf.put("a.pt", &pytorch(), 1);
    symlink("a.pt", shelf.path().join("latest.pt")).expect("a link");
    symlink("/dev/zero", shelf.path().join("zero.pt")).expect("a link");
    nix::unistd::mkfifo(&shelf.path().join("pipe.pt"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let huge = File::create(shelf.path().join("huge.safetensors")).expect("made");
    huge.set_len(100 << 30).expect("sparse");
    std::os::unix::fs::FileExt::write_all_at(&huge, &le(90 << 30, 8), 0).expect("written");
    let sparse = File::create(shelf.path().join("sparse.pt")).expect("made");
    sparse.set_len(100 << 30).expect("sparse");
    shelf.put("new\nline.pt", &pytorch(), 2);
    shelf.put("b.pt.broken-20261125T180000Z", b"torn", 3);
    shelf.put(".hidden.pt", &pytorch(), 4);
    shelf.put("directory/x/model.pt", &pytorch(), 0);
    symlink("../../..", shelf.path().join("directory/x/up")).expect("a link");
    let report = shelf.look(&Verify::Auto);
    let mut told: Vec<_> = report
        .checkpoints
        .iter()
        .map(|one| (one.path.rsplit('/').next().unwrap_or_default(), one.state, one.linked))
        .collect();
    told.sort_by_key(|(name, ..)| *name);
    let expected = [
        ("a.pt", State::Valid, true),
        ("directory", State::Valid, false),
        ("huge.safetensors", State::Unknown, false),
        ("pipe.pt", State::Unknown, false),
        ("sparse.pt", State::Broken, false),
    ];
    assert_eq!(told, expected);
    let resumed = report.resume_from().expect("one is valid");
    assert!(resumed.path.ends_with("/a.pt"), "{resumed:?}");
}

#[test]
fn deep_directories_have_a_bottom() {
    let shelf = Shelf::new();
    fs::create_dir_all(shelf.path().join("deep").join("d/".repeat(500))).expect("made");
    assert_eq!(shelf.told(&Verify::Auto), ["deep unknown its directories are too deep"]);
}

#[test]
fn size_counts_where_nothing_else_does() {
    let shelf = Shelf::new();
    for (at, (name, bytes)) in (0..).zip([("1.x", 1_000), ("2.x", 1_100), ("3.x", 900), ("4.x", 500), ("5.x", 400)]) {
        shelf.put(name, &vec![7; bytes], at);
    }
    shelf.put("6.y", b"small, but of another kind", 6);
    shelf.put("7.x", b"", 7);
    let expected = [
        "7.x broken it is empty",
        "6.y valid",
        "5.x broken it has 400 bytes, less than half of the 1000 that older ones have",
        "4.x valid",
        "3.x valid",
        "2.x valid",
        "1.x valid",
    ];
    assert_eq!(shelf.told(&Verify::Off), expected);
    let states: Vec<_> = shelf.look(&Verify::Auto).checkpoints.iter().map(|one| (one.state, one.usable)).collect();
    let (mute, broken, empty) = ((State::Unknown, true), (State::Broken, false), (State::Unknown, false));
    assert_eq!(states, [empty, mute, broken, mute, mute, mute, mute], "nothing is proven");
    let chosen =
        |shelf: &Shelf| shelf.look(&Verify::Auto).resume_from().map(|one| one.path.clone()).unwrap_or_default();
    assert!(chosen(&shelf).ends_with("/6.y"), "what says nothing about itself is taken where nothing is valid");
    shelf.put("0.pt", &pytorch(), 0);
    assert!(chosen(&shelf).ends_with("/0.pt"));
}

#[test]
fn a_command_of_the_policy_has_the_last_word() {
    let shelf = Shelf::new();
    for (at, name) in (0..).zip(["good.bin", "bad.bin", "$(touch x).bin", "torn.pt"]) {
        shelf.put(name, if name == "torn.pt" { b"PK\x03\x04" } else { b"data" }, at);
    }
    let command = |words: &[&str]| Verify::Command(CommandLine(words.iter().map(|word| Arc::from(*word)).collect()));
    let script = "case \"$1\" in *good*) exit 0;; *bad*) exit 3;; *) kill -9 $$;; esac";
    let expected = [
        "torn.pt broken the end of the archive is missing",
        "$(touch x).bin unknown the command of the policy was ended by signal 9",
        "bad.bin broken the command of the policy says so (exit status 3)",
        "good.bin valid",
    ];
    assert_eq!(shelf.told(&command(&["/bin/sh", "-c", script, "sh"])), expected);
    let missing = shelf.told(&command(&["/no/such/program"]));
    assert_eq!(missing[3], "good.bin unknown the command of the policy cannot be run: no such file");
    let slow = command(&["/bin/sh", "-c", "sleep 1000"]);
    let report = look(&shelf.pattern(), &slow, Instant::now() + Duration::from_millis(300)).expect("it ends");
    assert_eq!(report.checkpoints[1].why, "the command of the policy did not end in time");
    assert_eq!(report.checkpoints[3].why, "it was not looked at in time");
}

#[test]
fn patterns_reach_into_directories() {
    let shelf = Shelf::new();
    shelf.put("run1/ckpt/a.pt", &pytorch(), 1);
    shelf.put("run2/ckpt/b.pt", &pytorch(), 2);
    shelf.put("run3", b"a file", 3);
    fs::create_dir(shelf.path().join("elsewhere")).expect("made");
    symlink(shelf.path().join("run1"), shelf.path().join("run4")).expect("a link");
    let find = |pattern: &str| {
        let pattern = format!("{}/{pattern}", shelf.path().display());
        look(&pattern, &Verify::Auto, Instant::now() + Duration::from_secs(60)).map(|report| {
            let paths = report.checkpoints.into_iter().map(|one| one.path);
            paths.map(|path| path.strip_prefix(&format!("{}/", shelf.path().display())).map(str::to_owned)).collect()
        })
    };
    let some = |names: &[&str]| Ok(names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>());
    assert_eq!(find("run*/ckpt/*.pt"), some(&["run2/ckpt/b.pt", "run4/ckpt/a.pt", "run1/ckpt/a.pt"]));
    assert_eq!(find("run1/ckpt/a.pt"), some(&["run1/ckpt/a.pt"]));
    assert_eq!(find("run4/ckpt/*"), some(&["run4/ckpt/a.pt"]));
    assert_eq!(find("none/*"), some(&[]), "it may come later");
    assert_eq!(find("run1/nothing.pt"), some(&[]));
    assert!(find("run3/*").expect_err("a file").ends_with("a part of the path is no directory"));
}

#[test]
fn what_is_broken_is_set_aside_and_what_is_replaced_is_removed() {
    let shelf = Shelf::new();
    for (at, name) in (0..).zip(["1.pt", "2.pt", "3.pt", "4.pt", "5.pt"]) {
        shelf.put(name, &pytorch(), at);
    }
    shelf.put("0/x/model.pt", &pytorch(), 0);
    symlink("/etc", shelf.path().join("0/x/etc")).expect("a link");
    symlink("2.pt", shelf.path().join("best.pt")).expect("a link");
    shelf.put("6.pt", &pytorch()[..100], 6);
    shelf.put("7.pt.tmp", b"", 7);
    shelf.put("notes.txt", b"", 8);
    shelf.put(".9.pt.watcherd-removes", b"left over", 9);
    let wanted = crate::engine::action::Checkpoints {
        path: shelf.pattern().into(),
        keep: Some(2),
        max_age: None,
        verify: Verify::Auto,
    };
    let order = |tend: Option<&str>| {
        let order = Order::new(&wanted, tend.map(str::to_owned), Duration::from_secs(60));
        let order = Order::parse(&order.print().expect("it can be printed")).expect("it can be read");
        order.carry_out().expect("it can be done")
    };
    let names = || {
        let entries = fs::read_dir(shelf.path()).expect("readable").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("text")).collect();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(order(None).set_aside, Vec::new());
    assert_eq!(names(), before, "without leave nothing is changed");
    let report = order(Some("20261125T180000Z"));
    assert_eq!(report.failed, Vec::<String>::new());
    assert_eq!(report.set_aside, [("6.pt".to_owned(), "the end of the archive is missing".to_owned())]);
    assert_eq!(report.removed, ["3.pt", "1.pt", "0"]);
    assert_eq!(report.resume_from().map(|one| one.path.clone()), Some(format!("{}/5.pt", shelf.path().display())));
    assert_eq!(names(), ["2.pt", "4.pt", "5.pt", "6.pt.broken-20261125T180000Z", "7.pt.tmp", "best.pt", "notes.txt"]);
    assert!(Path::new("/etc/passwd").exists());
    // One more of the same name at the same time replaces nothing.
    shelf.put("6.pt", b"PK\x03\x04", 10);
    assert_eq!(order(Some("20261125T180000Z")).set_aside.len(), 1);
    assert!(names().contains(&"6.pt.broken-20261125T180000Z-1".to_owned()));
}

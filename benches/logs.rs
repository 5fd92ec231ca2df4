// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long logs: `watcherctl diagnose` against `grep -E` with the same alternatives, and against `journalctl -o cat`.

use crate::machine::guest::wait;
use crate::machine::{Machine, Suite, installed};
use crate::{quantile, sorted};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use watcherd::rules::{Examples, PACKAGED, RuleFile};

const LINES: usize = 1_000_000;
/// What is read from the journal; journald takes its time to write them.
const ENTRIES: usize = 200_000;

pub fn measure(rounds: usize) {
    let few = rounds.min(5);
    println!("\na log of {LINES} lines, {few} rounds in turns (ms)");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (log, patterns) = (dir.path().join("log"), dir.path().join("patterns"));
    write_log(&log, LINES);
    let (all, left_out) = write_patterns(&patterns);
    println!("  {:.0} MB, {all} patterns", fs::metadata(&log).expect("it is there").len() as f64 / 1e6);
    if left_out > 0 {
        println!("  grep does without {left_out} of them, which it cannot express");
    }
    let text = |path: &Path| path.to_str().expect("a plain name").to_owned();
    let watcherctl = text(&installed().join("usr/bin/watcherctl"));
    let diagnose = vec![watcherctl, "diagnose".into(), "-q".into(), text(&log)];
    // In the C locale it takes a fifth of the time that it takes with UTF-8.
    let words = ["env", "LC_ALL=C", "grep", "-cE", "-f"].map(String::from);
    let grep = [&words[..], &[text(&patterns), text(&log)]].concat();
    in_turns(few, &[("watcherctl diagnose", diagnose), ("grep -E, LC_ALL=C", grep)]);
    journal(rounds);
}

/// Runs the commands in turns, and prints how long each takes and how that compares with the first one.
fn in_turns(rounds: usize, commands: &[(&str, Vec<String>)]) {
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..=rounds {
        for ((_, argv), times) in commands.iter().zip(&mut times) {
            let start = Instant::now();
            // Not to /dev/null: grep would stop at the first match.
            let output = Command::new(&argv[0]).args(&argv[1..]).stderr(Stdio::inherit()).output();
            assert!(output.expect("it can be run").status.success(), "{argv:?}");
            // The first round only warms the page cache.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let times: Vec<Vec<f64>> = times.into_iter().map(sorted).collect();
    let base = quantile(&times[0], 0.5);
    for ((name, _), times) in commands.iter().zip(&times) {
        let median = quantile(times, 0.5);
        println!("  {name:34} {median:8.0} median, {:.0} p99, {:.2} times", quantile(times, 0.99), median / base);
    }
}

fn journal(rounds: usize) {
    println!("\na run with {ENTRIES} entries in the journal, {rounds} rounds in turns (ms)");
    let unit = "[Service]\nLogRateLimitIntervalSec=1s\nLogRateLimitBurst=10000000\nExecStart=/bin/sh -c 'cat /opt/log; exit 1'\n";
    let machine = Machine::boot_with(Suite::Bookworm, &[("/etc/systemd/system/long.service", unit)]);
    fs::create_dir_all(machine.root().join("opt")).expect("a directory");
    write_log(&machine.root().join("opt/log"), ENTRIES);
    machine.ok(&["systemctl", "start", "long.service"]);
    let written = wait(Duration::from_secs(120), || {
        machine.ok(&["journalctl", "--sync"]);
        let all = machine.ok(&["journalctl", "--output=cat", "--unit=long.service"]);
        (all.contains("Failed with result") && all.lines().count() > ENTRIES).then_some(())
    });
    assert!(written.is_some(), "the log is not in the journal");
    let inside = |argv: &[&str]| -> Vec<String> {
        let command = machine.command(argv);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(|word| word.to_str().expect("plain words").to_owned()).collect()
    };
    in_turns(
        rounds,
        &[
            ("watcherctl diagnose --unit", inside(&["watcherctl", "diagnose", "-q", "--unit", "long.service"])),
            ("journalctl -o cat", inside(&["journalctl", "-o", "cat", "--unit", "long.service"])),
            ("(to enter the container)", inside(&["true"])),
        ],
    );
}

/// A log as a training and a server behind it write it: nothing of it is an error before the last lines.
fn write_log(path: &Path, lines: usize) {
    let mut file = BufWriter::new(File::create(path).expect("a log"));
    for at in 0..lines {
        let (hour, minute, second) = (at / 36_000 % 24, at / 600 % 60, at / 10 % 60);
        let loss = 9_999 - at * 9_000 / lines;
        let result = match at % 10 {
            0 => writeln!(
                file,
                "127.0.0.1 - - [23/Nov/2026:{hour:02}:{minute:02}:{second:02} +0000] \"GET /api/v1/items/{at}?limit=100 HTTP/1.1\" 200 5316 \"-\" \"python-requests/2.31.0\""
            ),
            1 => writeln!(
                file,
                "2026-11-23 {hour:02}:{minute:02}:{second:02},412 INFO  [worker-{}] scheduler: task 8f{at:08x} finished in {}.{:03}s",
                at % 16,
                at % 7,
                at % 1000
            ),
            2 => writeln!(
                file,
                "DEBUG:urllib3.connectionpool:http://10.0.3.{}:8001 \"POST /queue/next HTTP/1.1\" 204 0",
                at % 250
            ),
            3 => writeln!(
                file,
                "{{\"level\":\"info\",\"ts\":{}.{},\"caller\":\"server/handler.go:{}\",\"msg\":\"request served\",\"bytes\":{}}}",
                1_795_000_000 + at,
                at % 1000,
                at % 300,
                at % 65_536
            ),
            _ => writeln!(
                file,
                "[{hour:02}:{minute:02}:{second:02}] epoch {} step {at}/{lines} loss 0.{loss:04} grad_norm 1.{:03} lr 3.0e-4 throughput 81{}.4 samples/s mem 61.2GiB eta 0:{minute:02}:{second:02}",
                at * 12 / lines,
                at % 1000,
                at % 10
            ),
        };
        result.expect("writable");
    }
    let end = "Traceback (most recent call last):\n  File \"/srv/train/main.py\", line 210, in <module>\n    trainer.fit()\n\
        torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.15 GiB\n";
    file.write_all(end.as_bytes()).expect("writable");
    file.flush().expect("writable");
}

/// The patterns of all packaged rules in the words of POSIX; also how many cannot be said so.
fn write_patterns(path: &Path) -> (usize, usize) {
    let files = PACKAGED.iter().map(|(name, text)| RuleFile::parse(name, text, Examples::Skip));
    let all: Vec<String> =
        files.flat_map(|file| file.rules).flat_map(|rule| rule.patterns).map(|pattern| posix(&pattern)).collect();
    let fine: Vec<&String> = all.iter().filter(|pattern| grep_takes(pattern)).collect();
    let text: String = fine.iter().flat_map(|pattern| [pattern.as_str(), "\n"]).collect();
    fs::write(path, text).expect("writable");
    (all.len(), all.len() - fine.len())
}

fn posix(pattern: &str) -> String {
    let mut text = pattern
        .replace("(?i)", "")
        .replace("(?m)", "")
        .replace("(?:", "(")
        .replace("(?i:", "(")
        .replace("(?P<", "(?<")
        .replace(r"\d", "[0-9]")
        .replace(r"\x1b", "\u{1b}");
    while let Some(begin) = text.find("(?<") {
        let end = text[begin..].find('>').map_or(text.len(), |at| begin + at + 1);
        text.replace_range(begin..end, "(");
    }
    for (lazy, plain) in [("+?", "+"), ("*?", "*"), ("}?", "}")] {
        text = text.replace(lazy, plain);
    }
    text
}

fn grep_takes(pattern: &str) -> bool {
    let status = Command::new("grep")
        .env("LC_ALL", "C")
        .args(["-qE", "-e", pattern, "/dev/null"])
        .stderr(Stdio::null())
        .status()
        .expect("grep can be run");
    status.code() == Some(1)
}

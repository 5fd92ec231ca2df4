// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::journal::runs::known_runs;
use crate::journal::tail::TEXT_MAX;
use crate::journal::tests::{REAL, REAL_257, entry, journal, of_our_user};
use std::path::Path;

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

const OURS: InvocationId = InvocationId([0xab; 16]);
const OURS_HEX: &[u8] = b"abababababababababababababababab";
const OTHER_HEX: &[u8] = b"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const CORE: &[u8] = b"fc2e22bc6ee647b6b90729ab34a250b1";
const OOM: &[u8] = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/a.service,task_memcg=/system.slice/a.service,task=python3,pid=71,uid=0";
const OOM_OF_B: &[u8] = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/b.service,task_memcg=/system.slice/b.service,task=python3,pid=81,uid=0";

const BEGIN: i64 = 1_000_000_000;
const END: i64 = 1_100_000_000;

fn wanted<'a>() -> Wanted<'a> {
    Wanted {
        unit: "a.service",
        scope: Scope::System,
        run: None,
        invocation: Some(OURS),
        pid: 70,
        since: Wall(BEGIN),
        until: Wall(END),
    }
}

/// An entry so many milliseconds after the begin, or before the end if that is negative.
fn line(millis: i64, fields: &Fields<'_>, message: &[u8]) -> Vec<u8> {
    let at = if millis < 0 { END + millis * 1_000 } else { BEGIN + millis * 1_000 };
    entry(at.unsigned_abs(), &[fields.as_slice(), &[("MESSAGE", message)]].concat())
}

/// The journal's first entry, before everything.
fn earlier() -> Vec<u8> {
    entry(1, &[("_TRANSPORT", b"kernel"), ("MESSAGE", b"Linux version 6.1")])
}

fn output() -> Fields<'static> {
    vec![("_SYSTEMD_UNIT", b"a.service"), ("_PID", b"70"), ("_COMM", b"python3"), ("_SYSTEMD_INVOCATION_ID", OURS_HEX)]
}

fn manager() -> Fields<'static> {
    vec![("_PID", b"1"), ("UNIT", b"a.service"), ("INVOCATION_ID", OURS_HEX)]
}

fn kernel() -> Fields<'static> {
    vec![("_TRANSPORT", b"kernel")]
}

fn core(writer: &'static [u8]) -> Fields<'static> {
    vec![
        ("_SYSTEMD_UNIT", writer),
        ("MESSAGE_ID", CORE),
        ("COREDUMP_UNIT", b"a.service"),
        ("COREDUMP_PID", b"72"),
        ("COREDUMP_COMM", b"worker"),
        ("COREDUMP_EXE", b"/usr/bin/python3.11"),
        ("COREDUMP_SIGNAL", b"11"),
        ("COREDUMP_SIGNAL_NAME", b"SIGSEGV"),
        ("COREDUMP_TIMESTAMP", b"1099000000"),
    ]
}

fn with<'a>(mut fields: Fields<'a>, more: &[(&'a str, &'a [u8])]) -> Fields<'a> {
    for (name, value) in more {
        fields.retain(|(other, _)| other != name);
        fields.push((name, value));
    }
    fields
}

fn of(export: &[u8], wanted: &Wanted<'_>) -> Option<Evidence> {
    let (_dir, mut journal) = journal(export)?;
    Some(collect(&mut journal, wanted).expect("an answer"))
}

fn told(evidence: &Evidence) -> Vec<(Source, &str)> {
    evidence.items.iter().map(|item| (item.source, item.text.as_str())).collect()
}

#[test]
fn all_that_is_known_comes_in_the_order_of_time() {
    let stack =
        b"Process 72 (worker) of user 0 dumped core.\n\nStack trace of thread 73:\n#0  0x1 raise (libc.so.6 + 0x1)\n";
    let export = [
        earlier(),
        line(0, &manager(), b"Starting a.service - A..."),
        line(10, &with(output(), &[("_PID", b"69"), ("_COMM", b"sh")]), b"from ExecStartPre"),
        line(20, &output(), b"epoch 1"),
        line(-900, &kernel(), b"worker[73]: segfault at 0 ip 00 sp 00 error 4 in libc.so.6[7f+1]"),
        line(-800, &core(b"systemd-coredump@3-99-0.service"), stack),
        line(-700, &kernel(), OOM),
        line(-600, &kernel(), b"Memory cgroup out of memory: Killed process 71 (python3) total-vm:1kB"),
        line(-500, &kernel(), OOM_OF_B),
        line(-400, &kernel(), b"EXT4-fs (sda1): Remounting filesystem read-only"),
        line(-300, &vec![("_SYSTEMD_UNIT", b"earlyoom.service")], b"sending SIGTERM to process 70 uid 0 \"python3\""),
        line(-200, &vec![("_SYSTEMD_UNIT", b"earlyoom.service")], b"sending SIGTERM to process 99 uid 0 \"x\""),
        line(-100, &manager(), b"a.service: Main process exited, code=killed, status=9/KILL"),
        line(-1, &output(), b"10%\r20%\r30%"),
        line(100_001, &manager(), b"a.service: Failed with result 'oom-kill'."),
    ]
    .concat();
    let Some(evidence) = of(&export, &Wanted { since: Wall(BEGIN + 15_000), ..wanted() }) else { return };
    let expected = [
        (Source::Manager, "Starting a.service."),
        (Source::Output, "from ExecStartPre"),
        (Source::Output, "epoch 1"),
        (Source::Kernel, "worker[73]: segfault at 0 ip 00 sp 00 error 4 in libc.so.6[7f+1]"),
        (Source::CoreDump, "SIGSEGV in /usr/bin/python3.11 (pid 72)\n#0  0x1 raise (libc.so.6 + 0x1)"),
        (Source::Kernel, std::str::from_utf8(OOM).expect("text")),
        (Source::Kernel, "Memory cgroup out of memory: Killed process 71 (python3) total-vm:1kB"),
        (Source::Kernel, "EXT4-fs (sda1): Remounting filesystem read-only"),
        (Source::Killer, "sending SIGTERM to process 70 uid 0 \"python3\""),
        (Source::Manager, "a.service: Main process exited, code=killed, status=9/KILL"),
        (Source::Output, "30%"),
        (Source::Manager, "a.service: Failed with result 'oom-kill'."),
    ];
    assert_eq!(told(&evidence), expected);
    assert_eq!((evidence.suppressed, evidence.gaps.as_slice()), (0, [].as_slice()));
    assert!(evidence.items.iter().all(|item| item.cursor.starts_with("s=") && item.at != Wall::NEVER));
    assert_eq!(evidence.items[4].pid, 72);
}

#[test]
fn what_anybody_can_claim_is_not_believed() {
    let liar: Fields<'_> = vec![("_PID", b"666"), ("_UID", b"1000"), ("_SYSTEMD_UNIT", b"session-1.scope")];
    let suppressed = b"Suppressed 7 messages from a.service";
    let lies = [
        earlier(),
        line(1, &with(manager(), &liar), b"a.service: Failed with result 'oom-kill'."),
        line(2, &with(liar.clone(), &[("SYSLOG_IDENTIFIER", b"kernel"), ("_TRANSPORT", b"journal")]), OOM),
        line(3, &with(core(b"session-1.scope"), &[("_PID", b"666")]), b"#0  raise"),
        line(4, &with(core(b"systemd-coredump.service"), &[("_PID", b"666")]), b"#0  raise"),
        line(5, &with(liar.clone(), &[("SYSLOG_IDENTIFIER", b"earlyoom")]), b"sending SIGTERM to process 70 uid 0"),
        line(
            6,
            &with(
                liar.clone(),
                &[("MESSAGE_ID", SUPPRESSED.as_bytes()), ("N_DROPPED", b"7"), ("_TRANSPORT", b"journal")],
            ),
            suppressed,
        ),
        line(7, &with(liar.clone(), &[("OBJECT_SYSTEMD_UNIT", b"a.service"), ("_UID", b"0")]), b"about a"),
        line(8, &with(liar.clone(), &[("WATCHERD_RUN", b"r1")]), b"of a run"),
    ]
    .concat();
    let Some(evidence) = of(&lies, &Wanted { run: Some("r1"), ..wanted() }) else { return };
    assert_eq!((told(&evidence), evidence.suppressed), (vec![], 0));
    let mut user = wanted();
    user.scope = Scope::User;
    let Some(evidence) = of(&lies, &user) else { return };
    assert_eq!((told(&evidence), evidence.suppressed), (vec![], 0));
}

#[test]
fn a_core_dump_that_root_told_counts_although_journald_was_too_late_to_see_its_unit() {
    let bare = |uid| {
        let mut fields = with(core(b""), &[("_PID", b"666"), ("_UID", uid)]);
        fields.retain(|(name, _)| *name != "_SYSTEMD_UNIT");
        fields
    };
    let export = [earlier(), line(1, &bare(b"0"), b"#0  raise"), line(2, &bare(b"1000"), b"#0  lie")].concat();
    let Some(evidence) = of(&export, &wanted()) else { return };
    assert_eq!(told(&evidence), [(Source::CoreDump, "SIGSEGV in /usr/bin/python3.11 (pid 72)\n#0  raise")]);
}

#[test]
fn a_run_that_has_lived_for_less_than_a_second_has_its_core_dump() {
    let writer = b"systemd-coredump@3-99-0.service";
    let dump = |pid| with(core(writer), &[("COREDUMP_PID", pid), ("COREDUMP_TIMESTAMP", b"1000000000")]);
    let export = [
        earlier(),
        line(900, &dump(b"70"), b"#0  of the run"),
        line(910, &dump(b"72"), b"#0  of the run before, perhaps"),
    ];
    let run = Wanted { since: Wall(BEGIN + 400_000), until: Wall(BEGIN + 950_000), ..wanted() };
    let Some(evidence) = of(&export.concat(), &run) else { return };
    assert_eq!(told(&evidence), [(Source::CoreDump, "SIGSEGV in /usr/bin/python3.11 (pid 70)\n#0  of the run")]);
}

#[test]
fn lines_of_other_runs_are_left_out_and_lines_without_a_run_are_kept() {
    let bare: Fields<'_> = vec![("_SYSTEMD_UNIT", b"a.service"), ("_PID", b"75")];
    let named = |run: &'static [u8]| with(bare.clone(), &[("WATCHERD_RUN", run)]);
    let export = [
        earlier(),
        line(1, &with(output(), &[("_SYSTEMD_INVOCATION_ID", OTHER_HEX)]), b"late word of the run before"),
        line(2, &bare, b"short-lived"),
        line(3, &named(b"r1"), b"short-lived, named"),
        line(4, &named(b"r0"), b"of another name"),
        // systemd restarted the unit that was made once: the name stays, the invocation does not.
        line(5, &with(output(), &[("_SYSTEMD_INVOCATION_ID", OTHER_HEX), ("WATCHERD_RUN", b"r1")]), b"restarted"),
        line(100_010, &bare, b"written down late"),
        line(100_020, &with(manager(), &[("INVOCATION_ID", OTHER_HEX)]), b"Starting a.service - A..."),
        line(100_030, &bare, b"of the next run"),
        line(100_040, &output(), b"ours, very late"),
        line(100_050, &kernel(), OOM),
        line(100_060, &manager(), b"about us, but later than the next begin"),
        line(101_000, &with(output(), &[("_SYSTEMD_INVOCATION_ID", OTHER_HEX)]), b"ours, taken for the next run's"),
        line(101_010, &with(output(), &[("_SYSTEMD_INVOCATION_ID", OTHER_HEX), ("_PID", b"76")]), b"of the next run"),
    ]
    .concat();
    let Some(evidence) = of(&export, &Wanted { run: Some("r1"), ..wanted() }) else { return };
    let texts: Vec<_> = evidence.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(
        texts,
        ["short-lived", "short-lived, named", "written down late", "ours, very late", "ours, taken for the next run's"]
    );

    // Without an invocation the begin of the next run is known by what the manager says.
    let next = [("INVOCATION_ID", OTHER_HEX), ("MESSAGE_ID", b"39f53479d3a045ac8e11786248231fbf".as_slice())];
    let export = [
        earlier(),
        line(2, &output(), b"first"),
        line(100_020, &with(manager(), &next), b"Started a.service - A."),
        line(100_030, &bare, b"of the next run"),
    ]
    .concat();
    let Some(evidence) = of(&export, &Wanted { invocation: None, pid: 0, ..wanted() }) else { return };
    assert_eq!(told(&evidence), [(Source::Output, "first")]);
}

#[test]
fn systemd_in_the_place_of_the_program_is_systemd() {
    let step = b"a.service: Failed at step EXEC spawning /x: No such file or directory";
    let program = |path: &'static [u8]| with(output(), &[("_EXE", path)]);
    let export = [
        earlier(),
        line(1, &program(b"/usr/lib/systemd/systemd-executor"), step),
        line(2, &program(b"/home/a/lib/systemd/systemd"), step),
    ]
    .concat();
    let Some(evidence) = of(&export, &wanted()) else { return };
    let sources: Vec<_> = evidence.items.iter().map(|item| item.source).collect();
    assert_eq!(sources, [Source::Manager, Source::Output]);
}

#[test]
fn what_journald_lost_is_told() {
    let driver = |id: &'static str, dropped: &'static [u8]| -> Fields<'static> {
        vec![("_TRANSPORT", b"driver"), ("MESSAGE_ID", id.as_bytes()), ("N_DROPPED", dropped)]
    };
    let export = [
        line(5_000, &output(), b"x"),
        line(6_000, &driver(SUPPRESSED, b"62502"), b"Suppressed 62502 messages from a.service"),
        line(7_000, &driver(SUPPRESSED, b"5"), b"Suppressed 5 messages from ba.service"),
        line(8_000, &driver(SUPPRESSED, b"3"), b"Suppressed 3 messages from a.service"),
        line(9_000, &driver(MISSED, b"2"), b"Missed 2 kernel messages"),
    ]
    .concat();
    let Some(evidence) = of(&export, &wanted()) else { return };
    assert_eq!(evidence.suppressed, 62_505);
    let gaps = [
        "the kernel's log cannot be read, or is not in the journal",
        "journald missed lines of the kernel",
        "the journal begins after the run did",
    ];
    assert_eq!(evidence.gaps, gaps);
    let mut user = wanted();
    user.scope = Scope::User;
    let session = format!("Suppressed 9 messages from user@{}.service", nix::unistd::getuid());
    let Some(evidence) = of(&[earlier(), line(1, &driver(SUPPRESSED, b"9"), session.as_bytes())].concat(), &user)
    else {
        return;
    };
    assert_eq!(evidence.suppressed, 0);
    assert_eq!(evidence.gaps, ["journald dropped 9 messages of the user's session, perhaps of this unit"]);
}

#[test]
fn an_empty_journal_is_a_gap() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open_directory(dir.path()).expect("an empty journal");
    let evidence = collect(&mut journal, &wanted()).expect("an answer");
    assert_eq!(told(&evidence), []);
    assert_eq!(evidence.gaps.len(), 2, "{:?}", evidence.gaps);
    let strange = Wanted {
        unit: "a\0=\n.service",
        run: Some("\0"),
        since: Wall::NEVER,
        until: Wall(i64::MAX),
        pid: u32::MAX,
        ..wanted()
    };
    for scope in [Scope::System, Scope::User] {
        for until in [Wall(i64::MIN), Wall(i64::MAX)] {
            collect(&mut journal, &Wanted { scope, until, ..strange.clone() }).expect("an answer");
        }
    }
}

#[test]
fn the_first_and_the_last_lines_of_a_long_run_are_kept() {
    let all = 3_000;
    let mut export = earlier();
    (0..all).for_each(|n| export.extend(line(n, &output(), format!("line {n}").as_bytes())));
    let Some(evidence) = of(&export, &wanted()) else { return };
    let texts: Vec<_> = evidence.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts.len(), FIRST_LINES + LAST_LINES);
    assert_eq!((texts[0], texts[FIRST_LINES - 1], texts[FIRST_LINES]), ("line 0", "line 99", "line 1000"));
    assert_eq!(texts.last(), Some(&"line 2999"));
    assert_eq!(evidence.gaps, ["of its output only the first and the last 2000 lines or 1 MiB were read"]);
}

#[test]
fn who_has_the_time_is_told_the_middle_too() {
    let mut export = earlier();
    (0..5_000).for_each(|n| {
        // Three lines each in the same moment, also where what is kept ends.
        export.extend(line(n / 3, &output(), format!("line {n}").as_bytes()));
        if n == 2_400 {
            export.extend(line(n / 3, &kernel(), OOM));
        }
        if n == 2_500 {
            export.extend(line(n / 3, &with(output(), &[("_SYSTEMD_INVOCATION_ID", OTHER_HEX)]), b"of another run"));
        }
    });
    let Some((_dir, mut journal)) = journal(&export) else { return };
    let mut told = Vec::new();
    let all = tell(&mut journal, &wanted(), &mut |one| told.push((one.source, one.at, one.text.to_owned())))
        .expect("an answer");
    assert_eq!(all.gaps, [""; 0]);
    assert!(all.items.len() < 2_200, "{}", all.items.len());
    assert!(told.is_sorted_by_key(|(_, at, _)| *at));
    let mut output: Vec<_> = told.iter().filter(|(source, ..)| *source == Source::Output).map(|one| &one.2).collect();
    // Of the same moment any may come first.
    output.sort_by_key(|text| text[5..].parse::<usize>().expect("a number"));
    assert!(output.iter().map(|text| text.as_str()).eq((0..5_000).map(|n| format!("line {n}"))), "{}", output.len());
    let at = told.iter().position(|(source, ..)| *source == Source::Kernel).expect("the kernel's line");
    assert!((2_395..2_405).contains(&at), "{at}");
}

#[test]
fn both_halves_of_the_output_meet() {
    let mut export = earlier();
    (0..2_050).for_each(|n| export.extend(line(n, &output(), format!("line {n}").as_bytes())));
    let Some(evidence) = of(&export, &wanted()) else { return };
    assert_eq!(evidence.items.len(), 2_050);
    assert!(evidence.items.iter().enumerate().all(|(n, item)| item.text == format!("line {n}")));
    assert_eq!(evidence.gaps, [""; 0]);
}

#[test]
fn huge_and_binary_messages_become_short_text_within_the_budget() {
    let mut export = earlier();
    let strange: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    (0..600).for_each(|n| export.extend(line(n, &output(), &strange)));
    export.extend(line(-50, &kernel(), &[b"Out of memory: Killed process \xff".as_slice(), &strange].concat()));
    export.extend(line(-40, &kernel(), &strange));
    export.extend(line(-30, &manager(), &strange));
    export.extend(line(-20, &core(b"systemd-coredump@1.service"), &strange));
    export.extend(entry(END.unsigned_abs() - 5, &output()));
    let Some(evidence) = of(&export, &wanted()) else { return };
    assert!(evidence.items.iter().all(|item| item.text.len() <= TEXT_MAX));
    assert!(evidence.items.iter().map(|item| item.text.len()).sum::<usize>() < 2 << 20);
    assert!(evidence.items.len() > FIRST_LINES / 2);
}

#[test]
fn a_flood_of_the_host_does_not_drown_the_runs_own_lines() {
    let mut export = earlier();
    export.extend(line(1, &kernel(), OOM));
    let flood = b"blk_update_request: I/O error, dev sda, sector 1";
    (2..1_000).for_each(|n| export.extend(line(n, &kernel(), flood)));
    let Some(evidence) = of(&export, &wanted()) else { return };
    assert_eq!(told(&evidence)[0].1.as_bytes(), OOM);
    assert_eq!(evidence.items.len(), 201);
    assert_eq!(evidence.gaps, ["older lines from kernel were not read, there are too many"]);
}

#[test]
fn a_users_unit_has_evidence_of_its_own() {
    let uid = nix::unistd::getuid();
    let (uid_text, session) = (uid.to_string(), format!("user@{uid}.service"));
    let user: Fields<'_> = vec![("_UID", uid_text.as_bytes()), ("_SYSTEMD_UNIT", session.as_bytes())];
    let memcg = format!("/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/a.service");
    let oom =
        format!("oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg={memcg},task_memcg={memcg},task=x,pid=9,uid={uid}");
    let said = [("_COMM", b"systemd".as_slice()), ("USER_UNIT", b"a.service"), ("USER_INVOCATION_ID", OURS_HEX)];
    let dump = [("COREDUMP_UNIT", session.as_bytes()), ("COREDUMP_USER_UNIT", b"a.service".as_slice())];
    let writer = b"systemd-coredump@0.service";
    let export = [
        earlier(),
        line(1, &with(user.clone(), &said), b"Started a.service."),
        line(2, &with(user.clone(), &[("_SYSTEMD_USER_UNIT", b"a.service"), ("_PID", b"70")]), b"named"),
        line(3, &with(user.clone(), &[("_PID", b"70"), ("_SYSTEMD_INVOCATION_ID", OTHER_HEX)]), b"bare"),
        line(4, &with(user.clone(), &[("_PID", b"44")]), b"somebody else"),
        line(5, &kernel(), oom.as_bytes()),
        line(6, &kernel(), OOM),
        line(7, &with(core(writer), &dump), b"#0  x"),
        line(8, &core(writer), b"#0  of the system's unit"),
    ]
    .concat();
    let Some(evidence) = of(&export, &Wanted { scope: Scope::User, ..wanted() }) else { return };
    let expected = [
        (Source::Manager, "Started a.service."),
        (Source::Output, "named"),
        (Source::Output, "bare"),
        (Source::Kernel, oom.as_str()),
        (Source::CoreDump, "SIGSEGV in /usr/bin/python3.11 (pid 72)\n#0  x"),
    ];
    assert_eq!(told(&evidence), expected);
}

#[test]
fn the_runs_of_a_unit_are_listed_newest_first_and_each_has_its_evidence() {
    for real in [REAL, REAL_257] {
        let Some((_dir, mut journal)) = journal(real) else { return };
        let forever = (Wall(0), Wall(i64::MAX - 1));
        let runs = known_runs(&mut journal, "ar.service", Scope::System, forever, 2).expect("an answer");
        assert_eq!(runs.len(), 2);
        assert!(runs[0].end.ended > runs[1].end.ended && runs[0].failed());
        let word = runs[0].invocation.expect("an invocation").to_string();
        assert!(runs[0].is_called(&word[..8]) && !runs[1].is_called(&word) && !runs[0].is_called("a"));
        let run = &runs[1];
        let wanted = Wanted {
            unit: "ar.service",
            scope: Scope::System,
            run: run.name.as_deref(),
            invocation: run.invocation,
            pid: 0,
            since: run.end.started,
            until: run.end.ended,
        };
        let evidence = collect(&mut journal, &wanted).expect("an answer");
        let ends = evidence.items.iter().filter(|item| item.text.contains("Main process exited")).count();
        assert_eq!(ends, 1, "{:?}", told(&evidence));
    }
    let Some((_dir, mut journal)) = journal(&of_our_user(REAL)) else { return };
    let runs = known_runs(&mut journal, "uexit.service", Scope::User, (Wall(0), Wall(i64::MAX - 1)), 9).expect("runs");
    assert_eq!(runs.len(), 1);
}

#[test]
fn a_run_has_the_name_that_its_lines_carry() {
    let end = [("MESSAGE_ID", b"d9b373ed55a64feb8242e02dbe79a49c".as_slice()), ("UNIT_RESULT", b"signal")];
    let export =
        [line(1, &with(output(), &[("WATCHERD_RUN", b"r1")]), b"x"), line(2, &with(manager(), &end), b"Failed")];
    let Some((_dir, mut journal)) = journal(&export.concat()) else { return };
    let runs = known_runs(&mut journal, "a.service", Scope::System, (Wall(0), Wall(i64::MAX - 1)), 9).expect("runs");
    assert_eq!(runs.iter().map(|run| run.name.as_deref()).collect::<Vec<_>>(), [Some("r1")]);
    assert!(runs[0].is_called("r1"));
}

#[test]
fn a_damaged_journal_never_stops_us() {
    let Some((dir, path)) = crate::journal::tests::file(REAL) else { return };
    let sound = std::fs::read(&path).expect("a file");
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).expect("it is below")
    };
    let copy = dir.path().join("damaged.journal");
    let mut answers = 0;
    for _ in 0..60 {
        let mut bytes = sound.clone();
        let used = bytes.len().min(400_000);
        for _ in 0..=next(6) {
            let (at, len) = (next(used), next(4096));
            let end = (at + len).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = next(256) as u8);
        }
        std::fs::write(&copy, &bytes).expect("a file");
        let copy: &Path = &copy;
        let Ok(mut journal) = Journal::open_files(&[copy]) else { continue };
        let wanted = Wanted { unit: "ar.service", invocation: None, since: Wall(1), until: Wall(i64::MAX), ..wanted() };
        answers += usize::from(collect(&mut journal, &wanted).is_ok());
    }
    assert!(answers > 0);
}

#[test]
fn a_program_may_write_before_systemd_notes_its_start() {
    let before = |millis: i64, fields: &Fields<'_>, message: &[u8]| {
        entry((BEGIN - millis * 1_000).unsigned_abs(), &[fields.as_slice(), &[("MESSAGE", message)]].concat())
    };
    let bare = |pid: &'static [u8]| -> Fields<'static> { vec![("_SYSTEMD_UNIT", b"a.service"), ("_PID", pid)] };
    let export = [
        earlier(),
        before(1_500, &output(), b"too early for anything"),
        before(900, &bare(b"60"), b"of the run before, as far as is known"),
        before(500, &output(), b"known by its invocation"),
        before(400, &bare(b"70"), b"known by its process"),
        line(5, &bare(b"70"), b"later"),
    ]
    .concat();
    let Some(evidence) = of(&export, &wanted()) else { return };
    let lines: Vec<_> = told(&evidence).into_iter().map(|(_, text)| text).collect();
    assert_eq!(lines, ["known by its invocation", "known by its process", "later"]);
}

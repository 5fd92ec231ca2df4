// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of precedence, one test each.

use super::super::time::Wall;
use super::*;

fn clue(place: u64, cause: Cause, weight: u8) -> Clue {
    Clue {
        rule: format!("{cause}-{place}").into(),
        cause,
        role: Role::Proof,
        weight,
        explains: [].into(),
        also: [].into(),
        source: Source::Output,
        place,
        at: Wall::NEVER,
        pid: 0,
        count: 1,
        text: format!("line {place}"),
        values: Vec::new(),
    }
}

fn kernel(place: u64, cause: Cause, weight: u8) -> Clue {
    Clue { source: Source::Kernel, ..clue(place, cause, weight) }
}

fn xid(place: u64, device: &str, rank: u8, cause: Cause) -> Clue {
    let role = if cause == Cause::NoCrash { Role::Harmless } else { Role::Proof };
    let values = vec![("device".into(), device.to_owned()), ("rank".into(), rank.to_string())];
    Clue { role, values, ..kernel(place, cause, 90) }
}

fn judged(end: &RunEnd, list: Vec<Clue>) -> Verdict {
    judge(end, &Clues { lines: 20, list, suppressed: 0 })
}

fn cause_of(list: Vec<Clue>) -> Cause {
    judged(&RunEnd::default(), list).cause
}

fn ended(result: UnitResult, exit: Exit) -> RunEnd {
    RunEnd { result, exit, ..RunEnd::default() }
}

#[test]
fn the_kernel_beats_what_the_program_printed_before() {
    let list = vec![clue(1, Cause::AppException, 59), kernel(9, Cause::OomKillHost, 92)];
    let verdict = judged(&RunEnd::default(), list);
    assert_eq!(verdict.cause, Cause::OomKillHost);
    assert_eq!(verdict.because, ["kernel: line 9"]);
    assert_eq!(verdict.cascade, ["output: line 1"]);
}

#[test]
fn a_faint_clue_counts_where_the_run_failed_and_nothing_else_explains_it() {
    let faint = |place| Clue { role: Role::Faint, ..clue(place, Cause::AuthFailure, 20) };
    let failed = ended(UnitResult::ExitCode, Exit::Exited(1));
    assert_eq!(judged(&failed, vec![faint(3)]).cause, Cause::AuthFailure);
    assert_eq!(judged(&failed, vec![faint(3)]).confidence, 20);
    assert_eq!(judged(&failed, vec![faint(3), clue(9, Cause::DnsFailure, 10)]).cause, Cause::DnsFailure);
    let harmless = Clue { role: Role::Harmless, ..clue(3, Cause::NoCrash, 21) };
    assert_eq!(judged(&failed, vec![harmless.clone(), faint(3)]).cause, Cause::AuthFailure);
    assert_eq!(cause_of(vec![harmless, faint(3)]), Cause::NoCrash);
    assert_eq!(cause_of(vec![faint(3)]), Cause::Unknown, "nobody says that it failed");
    let end = Clue { role: Role::End, ..clue(2, Cause::Unknown, 12) };
    assert_eq!(cause_of(vec![end.clone(), faint(3)]), Cause::AuthFailure, "its own lines say so");
    let ready = Clue { role: Role::Harmless, ..clue(4, Cause::NoCrash, 24) };
    assert_eq!(cause_of(vec![end, faint(3), ready]), Cause::NoCrash, "a helper of its own ended, and it is up");
    let long_ago = Clues { lines: 5_000, list: vec![faint(3)], suppressed: 9 };
    assert_eq!(judge(&failed, &long_ago).cause, Cause::AuthFailure);
    let killed = ended(UnitResult::CoreDump, Exit::Dumped(11));
    assert_eq!(judged(&killed, vec![faint(3)]).cause, Cause::Segfault);
}

#[test]
fn of_about_equal_clues_the_first_one_in_time_decides() {
    assert_eq!(cause_of(vec![clue(3, Cause::DnsFailure, 70), clue(5, Cause::AuthFailure, 74)]), Cause::DnsFailure);
    assert_eq!(cause_of(vec![clue(3, Cause::DnsFailure, 60), clue(5, Cause::AuthFailure, 74)]), Cause::AuthFailure);
}

#[test]
fn what_a_clue_explains_is_a_mere_consequence() {
    let explaining = Clue { explains: [Cause::DistributedComm].into(), ..clue(8, Cause::GpuOom, 60) };
    assert_eq!(cause_of(vec![clue(1, Cause::DistributedComm, 80), explaining]), Cause::GpuOom);
}

#[test]
fn of_two_clues_that_explain_each_other_the_heavier_one_counts() {
    let heap = Clue { explains: [Cause::TaskLimit].into(), ..clue(4, Cause::HeapExhausted, 80) };
    let fork = Clue { explains: [Cause::HeapExhausted].into(), ..clue(4, Cause::TaskLimit, 74) };
    assert_eq!(cause_of(vec![heap.clone(), fork.clone()]), Cause::HeapExhausted);
    let fork = Clue { weight: 85, ..fork };
    assert_eq!(cause_of(vec![heap, fork]), Cause::TaskLimit);
}

#[test]
fn a_step_that_systemd_names_beats_any_text_and_a_bare_signal_none() {
    let setup = ended(UnitResult::ExitCode, Exit::Exited(203));
    assert_eq!(judged(&setup, vec![clue(1, Cause::FileNotFound, 62)]).cause, Cause::UnitSetupFailed);
    let segfault = ended(UnitResult::CoreDump, Exit::Dumped(11));
    assert_eq!(judged(&segfault, vec![clue(1, Cause::TaskLimit, 74)]).cause, Cause::TaskLimit);
    assert_eq!(judged(&segfault, Vec::new()).cause, Cause::Segfault);
}

#[test]
fn sigkill_without_a_sender_is_not_called_an_oom_kill() {
    let killed = ended(UnitResult::Signal, Exit::Killed(9));
    assert_eq!(judged(&killed, Vec::new()).cause, Cause::KilledUnattributed);
    assert_eq!(judged(&killed, vec![kernel(2, Cause::OomKillCgroup, 94)]).cause, Cause::OomKillCgroup);
    let by_shell = ended(UnitResult::ExitCode, Exit::Exited(137));
    assert_eq!(judged(&by_shell, Vec::new()).cause, Cause::KilledUnattributed);
}

#[test]
fn a_success_outweighs_text_but_not_a_killed_child() {
    let fine = ended(UnitResult::Success, Exit::Exited(0));
    assert_eq!(judged(&fine, vec![clue(1, Cause::AppException, 59)]).cause, Cause::NoCrash);
    assert_eq!(judged(&fine, vec![kernel(1, Cause::OomKillHost, 92)]).cause, Cause::OomKillHost);
}

#[test]
fn a_failed_end_is_never_called_no_crash() {
    let failed = ended(UnitResult::ExitCode, Exit::Exited(1));
    let harmless = Clue { role: Role::Harmless, ..clue(1, Cause::NoCrash, 60) };
    assert_eq!(judged(&failed, vec![harmless.clone()]).cause, Cause::Unknown);
    assert_eq!(cause_of(vec![harmless]), Cause::NoCrash);
}

#[test]
fn a_log_that_ends_in_work_tells_of_no_crash_unless_the_run_failed() {
    let work = |place| Clue { role: Role::Work, ..clue(place, Cause::NoCrash, 26) };
    let trouble = clue(3, Cause::DiskFull, 76);
    let verdict = |end: &RunEnd, list, lines| judge(end, &Clues { list, lines, suppressed: 0 }).cause;
    let unknown = RunEnd::default();
    assert_eq!(verdict(&unknown, vec![trouble.clone(), work(5), work(6)], 6), Cause::NoCrash);
    // One line may be that of another process, and what comes long before the end says nothing about it.
    assert_eq!(verdict(&unknown, vec![trouble.clone(), work(6)], 6), Cause::DiskFull);
    assert_eq!(verdict(&unknown, vec![trouble.clone(), work(5), work(6)], 9), Cause::DiskFull);
    assert_eq!(verdict(&unknown, vec![work(1), work(2), trouble.clone()], 3), Cause::DiskFull);
    // Who is killed works to the last moment.
    assert_eq!(verdict(&unknown, vec![kernel(1, Cause::OomKillHost, 92), work(5), work(6)], 6), Cause::OomKillHost);
    let failed = ended(UnitResult::ExitCode, Exit::Exited(1));
    assert_eq!(verdict(&failed, vec![trouble, work(5), work(6)], 6), Cause::DiskFull);
}

#[test]
fn that_nothing_failed_must_outweigh_every_sign_that_something_did() {
    let harmless = Clue { role: Role::Harmless, ..clue(1, Cause::NoCrash, 60) };
    assert_eq!(cause_of(vec![harmless, clue(2, Cause::Segfault, 62)]), Cause::Segfault);
}

#[test]
fn of_the_codes_of_one_device_the_causing_one_counts() {
    let list = vec![
        xid(1, "0000:01:00", 18, Cause::NoCrash),
        xid(2, "0000:01:00", 0, Cause::GpuHardwareFault),
        xid(3, "0000:01:00", 12, Cause::GpuProgramFault),
    ];
    assert_eq!(cause_of(list), Cause::GpuHardwareFault);
}

#[test]
fn text_counts_less_where_lines_are_missing_and_far_from_the_end() {
    let end = ended(UnitResult::CoreDump, Exit::Dumped(11));
    let list = vec![clue(1, Cause::AppException, 62)];
    let clues = Clues { lines: 20, list, suppressed: 0 };
    assert_eq!(judge(&end, &clues).cause, Cause::AppException);
    assert_eq!(judge(&end, &Clues { suppressed: 9, ..clues.clone() }).cause, Cause::Segfault);
    assert_eq!(judge(&end, &Clues { lines: 9_000, ..clues }).cause, Cause::Segfault);
}

#[test]
fn nothing_to_see_is_unknown() {
    let verdict = judged(&RunEnd::default(), Vec::new());
    assert_eq!((verdict.cause, verdict.confidence, verdict.because.len()), (Cause::Unknown, 0, 0));
    let context = Clue { role: Role::Context, ..clue(1, Cause::Segfault, 90) };
    assert_eq!(cause_of(vec![context]), Cause::Unknown);
}

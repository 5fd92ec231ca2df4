// SPDX-License-Identifier: MIT OR Apache-2.0
//! watcherd keeps long-running work alive on a systemd machine, and says why it died.
//!
//! This is the map. A worker is an ordinary systemd unit plus a policy. Everything that happens becomes an
//! [`engine::event::Event`]; the engine alone decides, and says so as [`engine::action::Action`]s; everything else only
//! observes, performs, shows or keeps.
//!
//! ```text
//!         systemd (PID 1)      journald         config files          D-Bus callers
//!              |                  |                  |                     |
//!          systemd/watch      journal/           config/           api/ (guard: polkit)
//!              \__________________|__________________|____________________/
//!                                 |  Event   (one bounded queue, one order)
//!                                 v
//!      clock --now-->  +-----------------------------------------+   <-- Wake at next_wakeup()
//!                      |  engine/   handle(now, Event) -> Step   |    no IO, no clock, no locks, std only
//!                      +-----------------------------------------+
//!                          | actions                  | changes (ids)
//!                          v                          v
//!              daemon/perform                store/ (saved first), then api/publish -> objects -> signals
//!                 |            \
//!          systemd/jobs     the journal (MESSAGE_ID)
//!                 |
//!                 +-- the end of every action comes back as Event::Done --> top of the picture
//! ```
//!
//! The rules, in the order in which they are missed most:
//!
//! 1. Only [`engine`] decides. It compiles alone with `rustc`, without any crate; a test does so.
//! 2. State is saved before an action begins, so `kill -9` at any moment neither loses nor repeats one.
//! 3. Subscribe first, then list once, then follow signals. PID 1 is never polled.
//! 4. D-Bus objects hold no state; they show the views that [`api::publish`] was given.
//! 5. Unknown is not zero: what cannot be read proves nothing.
//! 6. Everything kept has a cap, every wait has a deadline, every channel is bounded.
//!
//! Why a run ended is told by lines: [`rules`] recognises them (patterns are data, in packaging/rules.d), and
//! engine/judge weighs what they say. daemon/examine has a failed run examined: [`journal`]'s evidence, [`host`]'s counters
//! and full file systems; daemon/live reads along with runs that go on. `watcherctl diagnose` does without any daemon.
//! How far a worker is, [`progress`] reads from files, servers and lines; daemon/progress brings it, and has commands run.
//! engine/verdict decides what waits for the verdict, engine/sign what signs of trouble in a running worker lead to,
//! engine/stall whether a worker still gets anywhere (engine/pace learns how long that may take), engine/oversight whether
//! one that says nothing is to be suspected and whether it stays below its ceilings. Before a stalled worker is stopped,
//! daemon/evidence saves what [`act`] can find out about it.
//!
//! Who may import whom (a test checks it): the engine nothing; [`rules`] only the engine's words; [`config`] only the
//! engine's policy and the form of rules; the adapters
//! ([`systemd`], [`journal`], [`progress`], [`host`], [`store`]) only the engine's words, never each other; [`api`] only
//! the engine's words; [`daemon`] everything but [`ctl`]; [`ctl`] the client side of [`api`], [`config`], [`rules`], [`journal`],
//! and words of the engine.
//!
//! To add an observation: an `Event` variant (the compiler lists every match), an adapter file, a scenario under
//! tests/scenarios. To add a remedy: an `Action` variant and an arm in daemon/perform. To add a cause: a row in
//! engine/cause, rules in packaging/rules.d, labelled cases in tests/cases.jsonl. To add a message of a program: a
//! pattern and an example in packaging/rules.d. To add a verb: one file in ctl/verbs and one clap variant. To
//! add a journal entry: a row in `EntryKind` and one in systemd/catalog.

pub mod engine;

pub mod act;
pub mod config;
pub mod host;
pub mod journal;
pub mod progress;
pub mod rules;
pub mod store;
pub mod systemd;

pub mod api;

pub mod ctl;
pub mod daemon;

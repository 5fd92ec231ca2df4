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
//! engine/judge weighs what they say. daemon/examine has a failed run examined: [`journal`]'s evidence, [`host`]'s
//! counters and full file systems; daemon/live reads along with runs that go on. `watcherctl diagnose` does without any
//! daemon. What GPUs do for a worker, [`gpu`] asks NVIDIA's library. How far a worker is, [`progress`] reads from
//! files, servers and lines; daemon/progress brings it, and has commands run. engine/verdict decides what waits for the
//! verdict, engine/sign what signs of trouble in a running worker lead to, engine/stall whether a worker still gets
//! anywhere (engine/watch keeps what is known of it, engine/pace learns how long that may take), engine/oversight
//! whether one that says nothing is to be suspected and whether it stays below its ceilings. engine/remedy decides what
//! follows a failure: engine/ladder chooses the remedy, engine/recurrence is the ledger by cause, engine/parameter what
//! is changed, engine/until what a hold waits for (daemon/conditions looks), engine/cluster finds one trouble behind
//! many failures, engine/follow_up what comes after a restart (daemon/hooks has it run). systemd/environment brings
//! changed parameters to units. What a failed run has left behind daemon/sweep looks for, and [`act`] ends it.
//! Before a stalled worker is stopped, daemon/evidence saves what [`act`] can find out about it.
//!
//! Before a run is started daemon/checkpoints has our own program, as a unit of its own, look for the newest checkpoint that
//! is whole, set broken ones aside and remove old ones ([`act`], with the rights of their owners).
//!
//! Who hears of an incident, and when, engine/news and engine/outbox decide once at the end of each step; [`act`] hands
//! a notice to watcherd-notify@.service, where `watcherctl notify --deliver` sends it with a program of the admin's.
//!
//! What happens and what is decided about it can be recorded (daemon/record) as a [`scenario`], the format in which the
//! tests under tests/scenarios are written, too; [`replay`] says what another policy would have decided.
//!
//! Who may import whom (a test checks it): the engine nothing; [`rules`] only the engine's words; [`config`] only the
//! engine's policy and the form of rules; the adapters
//! ([`systemd`], [`journal`], [`progress`], [`host`], [`gpu`], [`store`]) only the engine's words, never each other;
//! [`scenario`] the engine and, to spell policies, [`config`]; [`replay`] the engine and [`scenario`]; [`api`] only
//! the engine's words; [`daemon`] everything but [`ctl`]; [`ctl`] the client side of [`api`], [`config`], [`rules`],
//! [`journal`], [`replay`], what [`act`] reads of checkpoints, and words of the engine.
//!
//! To add an observation: an `Event` variant (the compiler lists every match; its spelling is in scenario/event), an adapter
//! file, a scenario under tests/scenarios. To add a remedy: an `Action` variant and an arm in daemon/perform. To add a cause: a row in
//! engine/cause, rules in packaging/rules.d, labelled cases in tests/cases.jsonl. To add a message of a program: a
//! pattern and an example in packaging/rules.d. To add a verb: one file in ctl/verbs and one clap variant. To
//! add a journal entry: a row in `EntryKind` and one in systemd/catalog.

pub mod engine;

pub mod act;
pub mod config;
pub mod gpu;
pub mod host;
pub mod journal;
pub mod progress;
pub mod rules;
pub mod store;
pub mod systemd;

pub mod replay;
pub mod scenario;

pub mod api;

pub mod ctl;
pub mod daemon;

// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to the daemon: the system's bus, the user's, another host's over ssh, a container's.

use super::agent::Agent;
use super::args::Global;
use super::failure::{Failure, exit};
use super::model::Everything;
use crate::api::client::{BUS_NAME, ManagerProxy, ROOT};
use serde::Serialize;
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use zbus::address::Transport;
use zbus::address::transport::Unixexec;
use zbus::connection::Builder;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicDeserialize;
use zbus::{Address, Connection, DynamicType, Proxy};

/// Signals that may wait until we look at them; a full queue would block every answer.
const SIGNALS_MAX: usize = 65_536;

/// A connection to the daemon.
pub struct Link {
    pub connection: Connection,
    dialog: Dialog,
    agent: RefCell<Option<Agent>>,
    agent_wanted: bool,
}

/// Whether the daemon may start a password dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialog {
    Allowed,
    Refused,
}

impl Link {
    pub async fn open(options: &Global) -> Result<Link, Failure> {
        let builder = match remote(options)? {
            Some(command) => Builder::address(command),
            None => match &options.address {
                Some(address) => Builder::address(address.as_str()),
                None if options.user => Builder::session(),
                None => Builder::system(),
            },
        };
        let queue = NonZeroUsize::new(SIGNALS_MAX).expect("it is a constant above zero");
        match builder.max_queued(queue).build().await {
            Ok(connection) => Ok(Link::over(connection, options)),
            Err(error) => Err(unreachable(options, &error)),
        }
    }

    pub fn over(connection: Connection, options: &Global) -> Link {
        let remote = options.host.is_some() || options.machine.is_some();
        let dialog = if options.no_ask_password { Dialog::Refused } else { Dialog::Allowed };
        let local_system = !remote && !options.user && options.address.is_none();
        let agent_wanted = local_system && !options.no_ask_password && Agent::is_useful();
        Link { connection, dialog, agent: RefCell::new(None), agent_wanted }
    }

    /// Whether a call may have to ask for a password on this terminal.
    pub fn may_ask_password(&self) -> bool {
        self.agent_wanted
    }

    /// The manager, for reading. What changes something goes through [`Link::ask`].
    pub async fn manager(&self) -> Result<ManagerProxy<'static>, Failure> {
        let proxy = ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await;
        proxy.map_err(|error| Failure::from_bus("talk to watcherd", &error))
    }

    /// The manager and all workers.
    pub async fn everything(&self) -> Result<Everything, Failure> {
        let manager = self.manager().await?;
        let text = manager.describe().await.map_err(|error| Failure::from_bus("list the workers", &error))?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::failed(format!("watcherd's answer cannot be read: {error}")))
    }

    /// Calls a method of the manager that may need a password.
    pub async fn ask<B, R>(&self, method: &'static str, body: &B) -> zbus::Result<R>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        self.ask_at(ROOT, "org.watcherd1.Manager", method, body).await
    }

    /// Calls a method that may need a password.
    pub async fn ask_at<B, R>(&self, path: &str, interface: &str, method: &'static str, body: &B) -> zbus::Result<R>
    where
        B: Serialize + DynamicType,
        R: for<'d> DynamicDeserialize<'d>,
    {
        self.start_agent().await;
        let proxy: Proxy<'_> = zbus::proxy::Builder::new(&self.connection)
            .destination(BUS_NAME)
            .path(path)
            .interface(interface)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let flags = match self.dialog {
            Dialog::Allowed => MethodFlags::ALLOW_INTERACTIVE_AUTH,
            Dialog::Refused => MethodFlags::empty(),
        };
        proxy.call_with_flags(method, flags, body).await?.ok_or(zbus::Error::InvalidReply)
    }

    /// A terminal's password dialog, started once.
    async fn start_agent(&self) {
        if self.agent_wanted && self.agent.borrow().is_none() {
            let agent = Agent::start().await;
            self.agent.replace(agent);
        }
    }
}

fn unreachable(options: &Global, error: &zbus::Error) -> Failure {
    let (place, local) = match (&options.host, &options.machine) {
        (Some(host), _) => (host.as_str(), false),
        (_, Some(machine)) => (machine.as_str(), false),
        _ if options.user => ("the user's bus", true),
        _ => ("the bus", true),
    };
    let text = format!("cannot connect to {place}: {}", super::failure::description(error));
    Failure::new(if local { exit::NOT_RUNNING } else { exit::FAILED }, text)
}

/// The program that carries the bus of another host or container.
fn remote(options: &Global) -> Result<Option<Address>, Failure> {
    let bridge = |more: &[String]| {
        let mut words = vec!["systemd-stdio-bridge".to_owned()];
        if options.user {
            words.push("--user".to_owned());
        }
        words.extend_from_slice(more);
        words
    };
    let command = match (&options.host, &options.machine) {
        (Some(host), _) => {
            let (host, port) = host_and_port(host).map_err(Failure::usage)?;
            let mut words = vec!["ssh".to_owned(), "-xT".to_owned()];
            words.extend(port.map(|port| format!("-p{port}")));
            words.extend(["--".to_owned(), host]);
            words.extend(bridge(&[]));
            words
        }
        (_, Some(machine)) => {
            if !is_machine_name(machine) {
                return Err(Failure::usage(format!("{machine:?} is not the name of a container")));
            }
            bridge(&[format!("--machine={machine}")])
        }
        _ => return Ok(None),
    };
    let mut words = command.into_iter();
    let program = words.next().unwrap_or_default();
    let arguments = words.map(Into::into).collect();
    let transport = Unixexec::new(PathBuf::from(&program), Some(program.into()), arguments);
    Ok(Some(Address::new(Transport::Unixexec(transport))))
}

/// Reads `[USER@]HOST[:PORT]`. Nothing in it may become an option of ssh or a word of a remote shell.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let wrong = || format!("{text:?} is not a host, such as alice@example.org or example.org:2222");
    let (user, rest) = match text.split_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse::<u16>().map_err(|_| wrong())?))
        }
        _ => (rest, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !plain(host, "-._:%") || user.is_some_and(|user| !plain(user, "-._")) {
        return Err(wrong());
    }
    let host = match user {
        Some(user) => format!("{user}@{host}"),
        None => host.to_owned(),
    };
    Ok((host, port))
}

/// As machinectl(1) names them; `USER@` in front and `.host` are allowed too.
fn is_machine_name(text: &str) -> bool {
    let name = text.split_once('@').map_or(text, |(_, name)| name);
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    !name.is_empty()
        && !text.starts_with('-')
        && plain(name)
        && text.split('@').count() <= 2
        && text.split('@').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_checked_before_ssh_sees_them() {
        assert_eq!(host_and_port("box"), Ok(("box".into(), None)));
        assert_eq!(host_and_port("alice@box.example:2222"), Ok(("alice@box.example".into(), Some(2222))));
        assert_eq!(host_and_port("[fe80::1%eth0]:22"), Ok(("fe80::1%eth0".into(), Some(22))));
        assert_eq!(host_and_port("::1"), Ok(("::1".into(), None)));
        for bad in ["", "-oProxyCommand=x", "a@-x", "a b", "a;b", "a@", "@a", "box:port", "a@b@c", "$(x)", "a\n"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn containers_are_checked_too() {
        assert!(is_machine_name("web-1"));
        assert!(is_machine_name("alice@.host"));
        for bad in ["", "-x", "a b", "a@b@c", "a/b", "x@"] {
            assert!(!is_machine_name(bad), "{bad}");
        }
    }

    #[test]
    fn another_host_is_reached_through_ssh() {
        let options = Global { host: Some("alice@box:2222".into()), user: true, ..Global::default() };
        let address = remote(&options).expect("valid").expect("a command");
        let Transport::Unixexec(command) = address.transport() else { panic!("not a command") };
        assert_eq!(command.args(), ["-xT", "-p2222", "--", "alice@box", "systemd-stdio-bridge", "--user"]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows a notice on the desktop: in the user's session by its notification service, on a system by a signal that
//! systembus-notify of each session shows. Whether anybody looks is not known.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use zbus::{Connection, Variant};

/// A desktop that does not answer is left alone.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whose desktop it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desk {
    /// Everybody's who is logged in.
    System,
    /// The user's own.
    Session,
}

/// Shows a text; the error is a fragment for people.
pub async fn show(connection: &Connection, desk: Desk, title: &str, body: &str) -> Result<(), String> {
    let shown = async {
        match desk {
            Desk::System => signal(connection, title, body).await,
            Desk::Session => bubble(connection, title, body).await,
        }
    };
    match timeout(DEADLINE, shown).await {
        Ok(shown) => shown.map_err(|error| format!("the desktop does not show it: {error}")),
        Err(_) => Err("the desktop does not answer".into()),
    }
}

/// See <https://github.com/rfjakob/systembus-notify>.
async fn signal(connection: &Connection, title: &str, body: &str) -> zbus::Result<()> {
    connection.emit_signal(None::<&str>, "/", "net.nuetzlich.SystemNotifications", "Notify", &(title, body)).await
}

/// See the Desktop Notifications Specification, "Notify".
async fn bubble(connection: &Connection, title: &str, body: &str) -> zbus::Result<()> {
    const NAME: &str = "org.freedesktop.Notifications";
    let (actions, hints) = (Vec::<&str>::new(), HashMap::<&str, Variant<'_>>::new());
    // The body may be read as markup.
    let body = body.replace('&', "&amp;").replace('<', "&lt;");
    let body = ("watcherd", 0_u32, "", title, body, actions, hints, -1_i32);
    connection.call_method(Some(NAME), "/org/freedesktop/Notifications", Some(NAME), "Notify", &body).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};
    use zbus::Guid;
    use zbus::connection::Builder;

    /// A desktop that writes down what it is asked to show.
    struct Notifications(Arc<Mutex<Vec<String>>>);

    #[zbus::interface(name = "org.freedesktop.Notifications")]
    impl Notifications {
        #[expect(clippy::too_many_arguments, reason = "the specification decides how many there are")]
        fn notify(
            &self,
            app_name: &str,
            replaces_id: u32,
            _app_icon: &str,
            summary: &str,
            body: &str,
            actions: Vec<String>,
            _hints: HashMap<String, zbus::OwnedVariant>,
            expire_timeout: i32,
        ) -> u32 {
            assert!(actions.is_empty());
            let shown = format!("{app_name} {replaces_id} {expire_timeout} {summary}: {body}");
            self.0.lock().expect("nobody panics").push(shown);
            1
        }
    }

    #[tokio::test]
    async fn the_session_is_asked_in_its_own_words_and_markup_stays_text() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let desktop = Builder::unix_stream(ours).server(Guid::generate()).p2p();
        let desktop = desktop.serve_at("/org/freedesktop/Notifications", Notifications(Arc::clone(&shown)));
        let (desktop, client) = tokio::join!(desktop.build(), Builder::unix_stream(theirs).p2p().build());
        let (_desktop, client) = (desktop.expect("a desktop"), client.expect("a client"));
        show(&client, Desk::Session, "[box] w failed", "a <b> & c").await.expect("it is shown");
        assert_eq!(*shown.lock().expect("nobody panics"), ["watcherd 0 -1 [box] w failed: a &lt;b> &amp; c"]);
    }
}

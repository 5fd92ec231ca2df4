// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thousand workers.

use super::super::client::ManagerProxy;
use super::*;
use std::time::Instant;
use zbus::fdo::ObjectManagerProxy;

fn thousand() -> Vec<(ObjectId, Option<View>)> {
    (0..1000).map(|n| shows_worker(worker(&format!("train@{n}")))).collect()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Prints what it takes; run with `--nocapture`. The bounds only catch a change of order.
#[tokio::test]
async fn a_thousand_workers_are_exported_listed_and_changed_quickly() {
    let mut scene = Scene::open().await;
    let before = resident_kib();
    let start = Instant::now();
    scene.publish(thousand()).await;
    let exported = start.elapsed();
    let kib = resident_kib().saturating_sub(before);

    let start = Instant::now();
    let objects = ObjectManagerProxy::builder(&scene.client).destination("org.watcherd1").path("/org/watcherd1");
    let objects = objects.build().await.expect("a proxy").get_managed_objects().await.expect("all objects");
    let managed = start.elapsed();
    assert_eq!(objects.values().filter(|interfaces| !interfaces.is_empty()).count(), 1000);

    let start = Instant::now();
    let proxy = ManagerProxy::builder(&scene.client).cache_properties(zbus::proxy::CacheProperties::No);
    let proxy = proxy.build().await.expect("a proxy");
    let listed = (proxy.list_workers().await.expect("open").len(), start.elapsed());
    assert_eq!(listed.0, 1000);
    let start = Instant::now();
    let json = proxy.describe().await.expect("open");
    let described = start.elapsed();

    let start = Instant::now();
    for n in 0..1000 {
        let mut view = worker(&format!("train@{n}"));
        view.progress.as_mut().expect("it has progress").value += 1;
        scene.publish(vec![shows_worker(view)]).await;
    }
    let changed = start.elapsed();
    println!(
        "1000 workers: export {exported:?}, {kib} KiB, GetManagedObjects {managed:?}, ListWorkers {:?}, Describe {described:?} ({} bytes), 1000 changes {changed:?}",
        listed.1,
        json.len()
    );
    for span in [exported, managed, listed.1, described, changed] {
        assert!(span < Duration::from_secs(10), "{span:?}");
    }
}

//! Our own key `monitor`.

use super::*;

#[test]
fn monitored_endpoints() {
    let script = good(&with(
        "monitor:\n  - {url: 'http://me:secret@127.0.0.1:9100/metrics', name: machine, series: [node_load1, 'node_cpu_*{mode=\"idle\"}'], every: 5s}\n  - url: https://dna.example/metrics",
        "flow: []",
    ));
    let [machine, dna] = &script.config.monitor[..] else { panic!("{:?}", script.config.monitor) };
    assert_eq!((machine.name.as_deref(), machine.every.as_secs()), (Some("machine"), 5));
    assert_eq!(machine.series, ["node_load1", "node_cpu_*{mode=\"idle\"}"]);
    assert_eq!((dna.series.len(), dna.every.as_secs()), (0, 1));
    let told = summary::describe(&script);
    assert!(told.contains("machine: node_load1, node_cpu_*") && told.contains("every 5"), "{told}");
    assert!(told.contains("the stages of its work, every 1") && !told.contains("secret"), "{told}");

    // One alone needs no list, nor one series.
    let one = good(&with("monitor: {url: 'http://localhost/metrics', series: up}", "flow: []"));
    assert_eq!(one.config.monitor[0].series, ["up"]);

    for (wrong, says) in [
        ("monitor: [{series: [up]}]", "no `url`"),
        ("monitor: {url: 'localhost:9100/metrics'}", "perhaps `http://localhost:9100/metrics`"),
        ("monitor: {url: /metrics}", "with a host: `http://127.0.0.1:9013/metrics`"),
        ("monitor: {url: 'ftp://x/metrics'}", "no address of metrics"),
        ("monitor: {url: 'http://x/metrics', every: 100ms}", "at least 1s"),
        ("monitor: [up]", "an endpoint of `monitor`"),
    ] {
        let errors = shown_errors(&[&with(wrong, "flow: []")]);
        assert!(errors.contains(says), "{wrong}: {errors}");
    }
    let warned = warnings(&with("monitor: {url: 'http://x/m', serie: up}", "flow: []"));
    assert!(warned[0].contains("did you mean `series`?"), "{warned:?}");
}

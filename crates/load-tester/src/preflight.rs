//! Can this machine carry the run at all? Asked before the first thread starts: open files, ports, source addresses.
//! And is the target a stranger's?

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use socketio_client::Transport;

use crate::flow::{Flow, FlowAction, any_step, shortest_life};
use crate::plan::Plan;
use crate::script::model::{Engine, ListenerGroup, PhaseKind};
use crate::virtual_user::Shared;

/// From one address to this machine itself that many sockets are near what its ports allow, with those that linger.
const MANY_FROM_ONE: u64 = 25_000;
/// Users a second, or at once, above which a target on the internet is worth a word.
const MANY_FOR_A_STRANGER: u64 = 50;

/// What a run will need at its peak, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    listeners: u64,
    users: u64,
    /// Of each user.
    sockets: u64,
    /// All of them.
    all: u64,
}

/// What this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Has {
    /// `None`: as many as wanted.
    open_files: Option<u64>,
    /// Ports the system gives out, and how many of them already go from here to the target. `None`: not known.
    ports: Option<(u64, u64)>,
    /// Source addresses that reach the target; 0: the system's one.
    sources: u128,
}

/// Refuses a run whose sockets cannot all be open at once; answers what the reader should know.
///
/// # Errors
/// With what is short, and what to change.
pub(crate) fn check(shared: &Shared) -> anyhow::Result<Vec<String>> {
    for address in shared.sources.ends() {
        // The port is the system's; an address that is not this machine's is refused.
        std::net::TcpListener::bind(SocketAddr::new(address, 0)).with_context(|| {
            format!("the source address {address} is not this machine's: take it out, or add it (`ip address add`)")
        })?;
    }
    let needs = needs(shared);
    let target = shared.addresses.first().copied();
    let has = Has {
        open_files: open_files(),
        ports: target.and_then(|target| {
            let used = if shared.sources.is_empty() { used_ports(target) } else { 0 };
            Some((port_range()?, used))
        }),
        sources: target.map_or(0, |target| shared.sources.count(target.is_ipv6())),
    };
    let mut notices = judge(needs, &has, target)?;
    notices.extend(target.and_then(|target| stranger(&shared.plan, needs, target)));
    Ok(notices)
}

fn needs(shared: &Shared) -> Needs {
    // A poll and a post at once.
    let per_socket = match shared.socket.base().transport {
        Transport::WebSocket => 1,
        Transport::Polling => 2,
        // And the WebSocket beside them while the transport changes.
        _ => 3,
    };
    let config = &shared.script.config;
    let listeners: u64 = config.listeners.iter().map(ListenerGroup::most_connections).sum();
    let of_listeners = sockets_of(&config.listeners, per_socket);
    let flows =
        || shared.scenarios.iter().filter(|scenario| scenario.weight > 0).map(|scenario| &scenario.flow);
    let http = |flow: &Flow| any_step(&flow.steps, &|action| matches!(action, FlowAction::Http(_)));
    let pool = config.http.pool.filter(|_| flows().any(http)).unwrap_or(0) as u64;
    let sockets = |flow: &Flow| {
        let own = match flow.engine {
            Engine::Http => 0,
            Engine::WebSocket => 1,
            Engine::SocketIo => per_socket,
        };
        own + u64::from(pool == 0 && http(flow))
    };
    let sockets = flows().map(sockets).max().unwrap_or(1).max(u64::from(pool == 0));
    let life = flows().map(|flow| shortest_life(&flow.steps)).max().unwrap_or_default();
    let users = peak_users(&shared.plan, life);
    Needs { listeners, users, sockets, all: of_listeners + users * sockets + pool }
}

/// `per_socket`: of a Socket.IO connection, however it travels; a plain WebSocket is one.
fn sockets_of(listeners: &[ListenerGroup], per_socket: u64) -> u64 {
    let each = |group: &ListenerGroup| match group.engine {
        Engine::WebSocket => 1,
        Engine::SocketIo | Engine::Http => per_socket,
    };
    listeners.iter().map(|group| group.most_connections() * each(group)).sum()
}

fn judge(needs: Needs, has: &Has, target: Option<SocketAddr>) -> anyhow::Result<Vec<String>> {
    let Needs { listeners, users, sockets, all } = needs;
    let files = all + 64;
    if let Some(allowed) = has.open_files.filter(|allowed| files > *allowed) {
        bail!(
            "this run needs about {files} open files ({listeners} listeners, about {users} users at once with {sockets} \
             each), but this process may open {allowed}: raise the limit (`ulimit -n {files}`), or lower the load"
        );
    }
    let Some((target, (range, used))) = target.zip(has.ports) else { return Ok(Vec::new()) };
    let addresses = has.sources.max(1);
    let free = u128::from(range.saturating_sub(used)) * addresses;
    // All of 127.0.0.0/8 is this machine; of IPv6 only ::1 is.
    let spread = match target.ip() {
        ip if ip.is_loopback() && ip.is_ipv4() => "`--sources 127.0.0.0/8`".to_owned(),
        ip if ip.is_loopback() => {
            "`-t` with 127.0.0.1 in place of ::1, and `--sources 127.0.0.0/8`".to_owned()
        }
        _ => "`--sources` and more addresses of this machine".to_owned(),
    };
    if u128::from(all) > free {
        let from =
            if addresses == 1 { "one address has".to_owned() } else { format!("{addresses} addresses have") };
        let busy = if used > 0 { format!(", {used} of them in use") } else { String::new() };
        bail!(
            "this run needs about {all} connections to {target} at once ({listeners} listeners, about {users} users with \
             {sockets} each), but {from} {} ports{busy}: spread them with {spread}, widen the range (`sysctl -w \
             net.ipv4.ip_local_port_range=\"1024 65535\"`), or lower the load",
            u128::from(range) * addresses
        );
    }
    let per_address = u128::from(all) / addresses;
    if target.ip().is_loopback() && per_address > u128::from(MANY_FROM_ONE) {
        return Ok(vec![format!(
            "about {all} connections will come from {}; with those that linger after they are closed its {range} ports may \
             run out: {spread} gives each connection another address",
            if addresses == 1 { "one address".to_owned() } else { format!("{addresses} addresses") }
        )]);
    }
    Ok(Vec::new())
}

/// A word when much load goes to an address of the internet.
fn stranger(plan: &Plan, needs: Needs, target: SocketAddr) -> Option<String> {
    if is_near(target.ip()) {
        return None;
    }
    let rate = plan.phases().iter().map(|planned| rate_of(&planned.phase.kind)).fold(0.0, f64::max);
    let most = (rate.ceil() as u64).max(plan.most_slots());
    (most > MANY_FOR_A_STRANGER).then(|| {
        format!(
            "{} is no address of this machine or of a private network, and it will get up to {} users a second and about {} \
             at once: make sure that whoever runs it knows",
            target.ip(),
            rate.ceil(),
            needs.users
        )
    })
}

/// This machine, or a network that is not the internet's.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // 100.64.0.0/10 is what providers and mesh networks use inside.
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_near(mapped.into()),
            None => {
                ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        },
    }
}

/// Raises this process's limit as far as it may, and answers it.
fn open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // macOS knows an unlimited hard limit but grants only this much.
        let wanted = limit.maximum.or(Some(if cfg!(target_os = "macos") { 10_240 } else { 1 << 20 }));
        if wanted > limit.current {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum });
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many ports the system gives out to connections; it is one range for IPv4 and IPv6.
fn port_range() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace().map(|end| end.parse::<u64>().ok());
    let (from, to) = (ends.next()??, ends.next()??);
    to.checked_sub(from).map(|between| between + 1)
}

/// Connections of this machine that already go to the target and whose ports nobody else can have.
fn used_ports(target: SocketAddr) -> u64 {
    // 1: those that linger after their end are taken over; 2, the default: on this machine itself.
    let reuse = fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse").unwrap_or_default();
    let lingering_too = match reuse.trim() {
        "1" => false,
        "2" => !target.ip().is_loopback(),
        _ => true,
    };
    let table = if target.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    fs::File::open(table).map_or(0, |table| connections_to(BufReader::new(table), target, lingering_too))
}

/// Counts the lines of the kernel's table whose remote end is the target; state `06` is TIME_WAIT.
fn connections_to(mut table: impl BufRead, target: SocketAddr, lingering_too: bool) -> u64 {
    let ip: String = match target.ip() {
        // Words of four bytes, each in this machine's order.
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            words
                .chunks_exact(4)
                .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
                .collect()
        }
    };
    let remote = format!("{ip}:{:04X}", target.port());
    let (mut count, mut line) = (0, String::new());
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let ours = fields.next() == Some(&remote) && (lingering_too || fields.next() != Some("06"));
        count += u64::from(ours);
        line.clear();
    }
    count
}

/// How many users live at once when each lives as long as its pauses and a second more.
fn peak_users(plan: &Plan, life: Duration) -> u64 {
    let life = life.saturating_add(Duration::from_secs(1)).as_secs_f64();
    let of_phase = |planned: &crate::plan::PlannedPhase| {
        if let PhaseKind::Closed { from, to, .. } = planned.phase.kind {
            return from.max(to);
        }
        let users = ((rate_of(&planned.phase.kind) * life).ceil() as u64).min(planned.arrivals);
        planned.phase.max_vusers.map_or(users, |most| users.min(most))
    };
    plan.phases().iter().map(of_phase).max().unwrap_or(0)
}

/// Arrivals a second, at most; of a closed phase nobody knows.
fn rate_of(kind: &PhaseKind) -> f64 {
    match *kind {
        PhaseKind::Pause { .. } | PhaseKind::Closed { .. } => 0.0,
        PhaseKind::Count { duration, count } => count as f64 / duration.as_secs_f64().max(0.001),
        PhaseKind::Rate { rate, .. } => rate,
        PhaseKind::Ramp { from, to, .. } => from.max(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::model::Phase;

    fn phase(kind: PhaseKind) -> Phase {
        Phase { name: None, kind, max_vusers: None }
    }

    #[test]
    fn peak_users_follow_from_rate_and_life() {
        let rate = phase(PhaseKind::Rate { duration: Duration::from_secs(30), rate: 300.0, poisson: false });
        let second = Duration::from_secs(1);
        assert_eq!(peak_users(&Plan::new(std::slice::from_ref(&rate), 1), second), 600);
        assert_eq!(peak_users(&Plan::new(std::slice::from_ref(&rate), 1), Duration::MAX), 9000);
        let capped = Phase { max_vusers: Some(50), ..rate };
        assert_eq!(peak_users(&Plan::new(&[capped], 1), second), 50);
        let closed = phase(PhaseKind::Closed { duration: second, from: 10, to: 4 });
        assert_eq!(peak_users(&Plan::new(&[closed], 1), Duration::MAX), 10);
    }

    #[test]
    fn a_plain_websocket_is_one_socket_whatever_the_transports() {
        let group = |engine, count| ListenerGroup {
            name: None,
            count,
            engine,
            place: None,
            payloads: Vec::new(),
            flow: Vec::new(),
            moving: None,
            returning: None,
            slow: None,
            storms: Vec::new(),
            reconnect: true,
        };
        let groups = [group(Engine::SocketIo, 10), group(Engine::WebSocket, 7)];
        assert_eq!(sockets_of(&groups, 3), 37);
    }

    /// What is said about so many sockets; an error begins with `refused: `.
    fn said(all: u64, has: &Has, target: &str) -> String {
        let needs = Needs { listeners: 100, users: all - 100, sockets: 1, all };
        match judge(needs, has, Some(target.parse().unwrap())) {
            Ok(notices) => notices.join("\n"),
            Err(error) => format!("refused: {error}"),
        }
    }

    #[test]
    fn what_is_short_is_named_with_what_to_change() {
        let has = Has { open_files: Some(100_000), ports: Some((28_232, 12)), sources: 0 };
        let local = "127.0.0.1:9013";
        assert_eq!(said(25_000, &has, local), "");
        let near = said(25_001, &has, local);
        assert!(
            near.contains("about 25001 connections") && near.contains("`--sources 127.0.0.0/8`"),
            "{near}"
        );
        // Elsewhere the target does not see what lingers here.
        assert_eq!(said(28_220, &has, "192.0.2.1:80"), "");
        let ports = said(28_221, &has, local);
        for part in [
            "refused: this run needs about 28221 connections to 127.0.0.1:9013",
            "28232 ports, 12 of them in use",
            "`--sources 127.0.0.0/8`",
            "ip_local_port_range",
        ] {
            assert!(ports.contains(part), "{part}: {ports}");
        }
        assert!(said(28_221, &has, "[::1]:9013").contains("127.0.0.1 in place of ::1"));
        assert!(said(28_221, &has, "192.0.2.1:80").contains("more addresses of this machine"));
        let spread = Has { sources: 3, ports: Some((28_232, 0)), ..has };
        assert_eq!(said(75_000, &spread, local), "");
        assert!(said(80_000, &spread, local).contains("from 3 addresses"));
        assert!(said(84_697, &spread, local).contains("3 addresses have 84696 ports"));
        let files = said(99_937, &Has { sources: 1 << 24, ..has }, local);
        assert!(files.contains("about 100001 open files") && files.contains("ulimit -n 100001"), "{files}");
        // Where nothing is known nothing is refused.
        assert_eq!(said(1 << 40, &Has { open_files: None, ports: None, sources: 0 }, local), "");
    }

    #[test]
    fn much_load_for_a_stranger_is_worth_a_word() {
        let needs = Needs { listeners: 0, users: 99, sockets: 1, all: 99 };
        let told = |rate, target: &str| {
            let kind = PhaseKind::Rate { duration: Duration::from_secs(9), rate, poisson: false };
            stranger(&Plan::new(&[phase(kind)], 1), needs, target.parse().unwrap())
        };
        for near in [
            "127.9.9.9:1",
            "10.0.0.1:1",
            "172.20.0.1:1",
            "192.168.7.7:1",
            "100.64.0.1:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert_eq!(told(1000.0, near), None, "{near}");
        }
        assert_eq!(told(50.0, "192.0.2.1:1"), None);
        assert!(told(50.5, "192.0.2.1:1").unwrap().contains("up to 51 users a second and about 99 at once"));
        assert!(told(51.0, "[2001:db8::1]:1").is_some());
    }

    #[test]
    fn connections_to_a_target_are_counted_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:2335 00000000:0000 0A 00000000:00000000\n\
             1: 0100007F:A001 0100007F:2335 01 00000000:00000000\n\
             2: 0200007F:A002 0100007F:2335 06 00000000:00000000\n\
             3: 0100007F:2335 0100007F:A001 01 00000000:00000000\n";
        assert_eq!(connections_to(table.as_bytes(), "127.0.0.1:9013".parse().unwrap(), true), 2);
        assert_eq!(connections_to(table.as_bytes(), "127.0.0.1:9013".parse().unwrap(), false), 1);
        assert_eq!(connections_to(table.as_bytes(), "127.0.0.2:9013".parse().unwrap(), true), 0);
        let six = "0: 00000000000000000000000001000000:A001 00000000000000000000000001000000:2335 01\n";
        assert_eq!(connections_to(six.as_bytes(), "[::1]:9013".parse().unwrap(), true), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_of_ours_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let before = used_ports(target);
        let _open = std::net::TcpStream::connect(target).unwrap();
        assert_eq!((before, used_ports(target)), (0, 1));
        assert!(port_range().unwrap() > 1000);
    }
}

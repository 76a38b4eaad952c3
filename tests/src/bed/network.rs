//! One bridge, one network namespace per host, and the ways to cut between them: packets vanish, nobody gets a reset. Lives in
//! the network namespace of this process, where the clients are, and vanishes with it.

use super::shell::{run, run_on};

/// A table of the bridge: who no longer hears whom. Loss comes first, in a chain of its own.
const RULES: &str = "table bridge bed {
    set cut { type ifname . ifname; }
    set deaf_to_clients { type ifname; }
    set mute_to_clients { type ifname; }
    chain loss { }
    chain between { type filter hook forward priority 0; iifname . oifname @cut drop; jump loss; }
    chain from_clients { type filter hook output priority 0; oifname @deaf_to_clients drop; }
    chain to_clients { type filter hook input priority 0; iifname @mute_to_clients drop; }
}";

/// Where coordinators serve gRPC.
pub const GRPC_PORT: u16 = 15100;
/// Where coordinators serve metrics.
pub const HTTP_PORT: u16 = 15101;

/// The address of a host.
pub fn address(host: usize) -> String {
    format!("10.99.0.{}", host + 11)
}

/// Where the namespace of a host can be entered.
pub fn namespace(host: usize) -> String {
    format!("/run/netns/m{host}")
}

/// Makes bridge, rules and the namespaces of so many hosts.
pub fn make(hosts: usize) -> anyhow::Result<()> {
    run("ip link set lo up")?;
    run("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
    run("ip address add 10.99.0.1/24 dev br0")?;
    run("ip link set br0 up")?;
    for host in 0..hosts {
        let address = address(host);
        run(&format!("ip netns add m{host}"))?;
        run(&format!(
            "ip link add m{host} type veth peer name eth0 netns m{host}"
        ))?;
        run(&format!("ip link set m{host} master br0 up"))?;
        run(&format!("ip -n m{host} link set lo up"))?;
        run(&format!("ip -n m{host} address add {address}/24 dev eth0"))?;
        run(&format!("ip -n m{host} link set eth0 up"))?;
    }
    run_on(RULES, "nft", &["-f", "-"])
}

/// What `from` sends no longer reaches `to`.
pub fn cut(from: usize, to: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge bed cut {{ m{from} . m{to} }}"
    ))
}

/// What `from` sends to, or as, a server on that port no longer reaches `to`.
pub fn cut_port(from: usize, to: usize, port: u16) -> anyhow::Result<()> {
    for side in ["dport", "sport"] {
        run(&format!(
            "nft add rule bridge bed loss iifname m{from} oifname m{to} tcp {side} {port} drop"
        ))?;
    }
    Ok(())
}

/// What clients send no longer reaches the host.
pub fn cut_from_clients(host: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge bed deaf_to_clients {{ m{host} }}"
    ))
}

/// What the host sends no longer reaches clients.
pub fn cut_to_clients(host: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge bed mute_to_clients {{ m{host} }}"
    ))
}

/// Nothing reaches the host any more, from other hosts or from clients.
pub fn deafen(host: usize, hosts: usize) -> anyhow::Result<()> {
    others(host, hosts).try_for_each(|other| cut(other, host))?;
    cut_from_clients(host)
}

/// Nothing that the host sends reaches anybody any more.
pub fn mute(host: usize, hosts: usize) -> anyhow::Result<()> {
    others(host, hosts).try_for_each(|other| cut(host, other))?;
    cut_to_clients(host)
}

/// The host hears nobody and nobody hears it.
pub fn isolate(host: usize, hosts: usize) -> anyhow::Result<()> {
    deafen(host, hosts)?;
    mute(host, hosts)
}

/// All hosts but one.
pub fn others(host: usize, hosts: usize) -> impl Iterator<Item = usize> {
    (0..hosts).filter(move |other| *other != host)
}

/// The host's cable is out: both ends see it.
pub fn unplug(host: usize) -> anyhow::Result<()> {
    run(&format!("ip link set m{host} down"))
}

/// So many of a hundred packets between hosts are lost.
pub fn lose(percent: u64) -> anyhow::Result<()> {
    run(&format!(
        "nft add rule bridge bed loss numgen random mod 100 < {percent} drop"
    ))
}

/// The host receives through a narrow pipe in which packets queue.
pub fn slow_down(host: usize) -> anyhow::Result<()> {
    run(&format!(
        "tc qdisc replace dev m{host} root tbf rate 256kbit burst 4kb latency 400ms"
    ))
}

/// Everything reaches everybody again.
pub fn heal(hosts: usize) -> anyhow::Result<()> {
    run_on(
        "flush set bridge bed cut
         flush set bridge bed deaf_to_clients
         flush set bridge bed mute_to_clients
         flush chain bridge bed loss",
        "nft",
        &["-f", "-"],
    )?;
    for host in 0..hosts {
        run(&format!("ip link set m{host} up"))?;
        run(&format!("tc qdisc replace dev m{host} root noqueue"))?;
    }
    Ok(())
}

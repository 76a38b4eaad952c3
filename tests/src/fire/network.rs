//! One bridge, one network namespace per member, and the ways to cut between them: packets vanish, nobody gets a reset. Lives in
//! the network namespace of this process, where the clients are, and vanishes with it.

use super::{
    MEMBERS,
    shell::{run, run_on},
};

/// A table of the bridge: who no longer hears whom. Loss comes first, in a chain of its own.
const RULES: &str = "table bridge fire {
    set cut { type ifname . ifname; }
    set deaf_to_clients { type ifname; }
    set mute_to_clients { type ifname; }
    chain loss { }
    chain between { type filter hook forward priority 0; iifname . oifname @cut drop; jump loss; }
    chain from_clients { type filter hook output priority 0; oifname @deaf_to_clients drop; }
    chain to_clients { type filter hook input priority 0; iifname @mute_to_clients drop; }
}";

/// Where members serve gRPC.
pub const GRPC_PORT: u16 = 15100;
/// Where members serve metrics.
pub const HTTP_PORT: u16 = 15101;

/// The address of a member.
pub fn address(member: usize) -> String {
    format!("10.99.0.{}", member + 11)
}

/// Where the namespace of a member can be entered.
pub fn namespace(member: usize) -> String {
    format!("/run/netns/m{member}")
}

/// Makes bridge, namespaces and rules.
pub fn make() -> anyhow::Result<()> {
    run("ip link set lo up")?;
    run("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
    run("ip address add 10.99.0.1/24 dev br0")?;
    run("ip link set br0 up")?;
    for member in 0..MEMBERS {
        let address = address(member);
        run(&format!("ip netns add m{member}"))?;
        run(&format!(
            "ip link add m{member} type veth peer name eth0 netns m{member}"
        ))?;
        run(&format!("ip link set m{member} master br0 up"))?;
        run(&format!("ip -n m{member} link set lo up"))?;
        run(&format!(
            "ip -n m{member} address add {address}/24 dev eth0"
        ))?;
        run(&format!("ip -n m{member} link set eth0 up"))?;
    }
    run_on(RULES, "nft", &["-f", "-"])
}

/// What `from` sends no longer reaches `to`.
pub fn cut(from: usize, to: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge fire cut {{ m{from} . m{to} }}"
    ))
}

/// What clients send no longer reaches the member.
pub fn cut_from_clients(member: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge fire deaf_to_clients {{ m{member} }}"
    ))
}

/// What the member sends no longer reaches clients.
pub fn cut_to_clients(member: usize) -> anyhow::Result<()> {
    run(&format!(
        "nft add element bridge fire mute_to_clients {{ m{member} }}"
    ))
}

/// The member's cable is out: both ends see it.
pub fn unplug(member: usize) -> anyhow::Result<()> {
    run(&format!("ip link set m{member} down"))
}

/// So many of a hundred packets between members are lost.
pub fn lose(percent: u64) -> anyhow::Result<()> {
    run(&format!(
        "nft add rule bridge fire loss numgen random mod 100 < {percent} drop"
    ))
}

/// The member receives through a narrow pipe in which packets queue.
pub fn slow_down(member: usize) -> anyhow::Result<()> {
    run(&format!(
        "tc qdisc replace dev m{member} root tbf rate 256kbit burst 4kb latency 400ms"
    ))
}

/// Everything reaches everybody again.
pub fn heal() -> anyhow::Result<()> {
    run_on(
        "flush set bridge fire cut
         flush set bridge fire deaf_to_clients
         flush set bridge fire mute_to_clients
         flush chain bridge fire loss",
        "nft",
        &["-f", "-"],
    )?;
    for member in 0..MEMBERS {
        run(&format!("ip link set m{member} up"))?;
        run(&format!("tc qdisc replace dev m{member} root noqueue"))?;
    }
    Ok(())
}

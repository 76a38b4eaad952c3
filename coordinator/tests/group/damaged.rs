//! A real process on damaged files: it ends with the sentence that names the file and the way out, never with a signal.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio::time::{Instant, sleep};

use super::{DEADLINE, STEP, free_ports};

/// The optimised program where the tests have one, for it is built otherwise than the tests are.
fn program() -> PathBuf {
    let folder = env::var_os("VT_BIN_DIR").filter(|folder| !folder.is_empty());
    folder.map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_vt-coordinator")),
        |folder| PathBuf::from(folder).join("vt-coordinator"),
    )
}

fn start(directory: &Path) -> Child {
    let said = File::create(directory.join("said")).unwrap();
    Command::new(program())
        .arg("--config")
        .arg(directory.join("toml"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap()
}

fn said(directory: &Path) -> String {
    fs::read_to_string(directory.join("said")).unwrap()
}

async fn lives_until_it_leads(directory: &Path) {
    let mut child = start(directory);
    let began = Instant::now();
    while !said(directory).contains("leads=true") {
        assert!(began.elapsed() < DEADLINE, "{}", said(directory));
        sleep(STEP).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn damaged_files_end_the_process_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let data_dir = at.join("data");
    let ports = free_ports(2);
    let text = format!(
        "cluster = \"kill\"\nmember_id = 1\ndata_dir = {data_dir:?}\nlisten = \"{}\"\nhttp_listen = \"{}\"\nplaintext = true\n[members]\n1 = \"{}\"\n",
        ports[0], ports[1], ports[0]
    );
    fs::write(at.join("toml"), text).unwrap();
    lives_until_it_leads(at).await;
    for file in ["raft/db", "raft/conf", "log/0000000000000001.log"] {
        let path = data_dir.join(file);
        let whole = fs::read(&path).unwrap();
        let mut spoiled = whole.clone();
        for byte in spoiled.iter_mut().take(40) {
            *byte ^= 0x5a;
        }
        fs::write(&path, spoiled).unwrap();
        let status = start(at).wait().unwrap();
        let text = said(at);
        assert_eq!(status.code(), Some(1), "{file}: {status}: {text}");
        let folder = path.parent().unwrap().display().to_string();
        for words in [&folder, " is damaged: ", "vtctl coordinator replace 1"] {
            assert!(text.contains(words), "{file}: {text}");
        }
        fs::write(&path, whole).unwrap();
    }
    lives_until_it_leads(at).await;
}

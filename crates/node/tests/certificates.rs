//! Certificates of a running node: the program itself.

mod program;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use program::{Program, configure, http};
use quorate::{NodeId, Validity, WallMillis};
use quorate_node::certs::directory::CertificateDirectory;

/// Goal: a running node takes files that replace its own, says so in one line, and warns when they
/// expire soon; a key that others may read is reported at the start, with the remedy. Method: the
/// files are replaced by a certificate that has a day left.
#[test]
fn replaced_files_are_taken_by_a_running_node() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = configure(directory.path());
    let certificates = CertificateDirectory::at(directory.path().join("certs"));
    let node = NodeId(1);
    let key = certificates.node_key(node);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("set");
    let mut program = Program::start_node("true", &config);
    let expires = |tls: &quorate::NodeTls| {
        let seconds = tls.validity().not_after.0 / 1_000;
        format!("quorate_certificate_expires_seconds {seconds}\n")
    };
    let first = certificates.tls(node).expect("read");
    assert!(http(program.admin, "/metrics").contains(&expires(&first)));
    // Not `/cluster`, whose answer is kept for a while.
    assert!(http(program.admin, "/status").contains("\"warnings\":[]"));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let day = Duration::from_secs(86_400);
    let at = |time: Duration| WallMillis(u64::try_from(time.as_millis()).expect("soon"));
    let validity = Validity { not_before: at(now - 100 * day), not_after: at(now + day) };
    let authority = certificates.authority().expect("read");
    let second = authority.issue_between(node, validity).expect("issued");
    fs::write(&key, second.key_pem()).expect("written");
    fs::write(certificates.node_pem(node), second.certificate_pem()).expect("written");
    let said = program.wait_line("has new certificates");
    assert!(said.contains("good until 20"), "{said}");
    assert!(http(program.admin, "/metrics").contains(&expires(&second)));
    let cluster = http(program.admin, "/cluster");
    assert!(cluster.contains("its certificate expires on 20"), "{cluster}");
    assert!(cluster.contains("\"health\":\"degraded\""), "{cluster}");

    let (code, said) = program.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("chmod 600 {}", key.display())), "{said}");
}

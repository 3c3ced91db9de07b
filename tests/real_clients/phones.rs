//! Softphones without a sound card: each plays a tone and records what it hears.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::process::{Folder, Program, command, free_ports, wait_for};
use crate::sound::{self, Heard};

/// How long a phone may take to start and to set up a call.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long the tone is that a phone plays, in seconds; longer than any test.
const TONE_SECONDS: u32 = 40;

/// A baresip in a call. It speaks A-law, so that a room with a linphone is a mixed one.
pub struct Baresip {
    program: Program,
    folder: Folder,
}

impl Baresip {
    /// Calls `uri` and plays a tone.
    pub fn call(uri: &str, tone_hz: u32) -> Baresip {
        let folder = Folder::new("baresip");
        let path = folder.path().display();
        let ports = free_ports(12);
        sound::write_wav(&folder.path().join("tone.wav"), tone_hz, TONE_SECONDS);
        // `sndfile` writes what is heard; there is no player, so a silent one is used.
        let config = format!(
            "net_interface 127.0.0.1\nsip_listen 127.0.0.1:{ports}\nrtp_ports {}-{}\n\
             audio_source aufile,{path}/tone.wav\nausrc_srate 8000\nauplay_srate 8000\n\
             ausrc_channels 1\nauplay_channels 1\nmodule_path /usr/lib/baresip/modules\n\
             module g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule_tmp account.so\n\
             module_app menu.so\nsnd_path {path}\n",
            ports + 2,
            ports + 11
        );
        let account = "<sip:baresip@127.0.0.1>;regint=0;audio_codecs=PCMA\n";
        for (name, text) in [("config", config.as_str()), ("accounts", account), ("contacts", "")] {
            fs::write(folder.path().join(name), text).expect("the folder is ours");
        }
        let mut baresip = command("baresip");
        baresip.arg("-f").arg(folder.path()).args(["-s", "-v", "-e", &format!("/dial {uri}")]);
        let mut program = Program::start("baresip", "baresip-core", folder.path(), &mut baresip);
        program.wait_to_say("Call established", CALL_LIMIT);
        Baresip { program, folder }
    }

    /// Hangs up, as by ctrl-C, and gives what it heard.
    pub fn hang_up(self) -> Heard {
        self.program.signal(libc::SIGINT);
        self.end()
    }

    /// Waits for the other side to hang up.
    pub fn wait_for_bye(&mut self) {
        self.program.wait_to_say("session closed", CALL_LIMIT);
    }

    fn end(mut self) -> Heard {
        let status = self.program.wait(END_LIMIT);
        assert!(status.success(), "baresip ended with {status}: {}", self.program.said());
        Heard::recorded(&self.recording())
    }

    /// The decoded side of what `sndfile` wrote.
    fn recording(&self) -> PathBuf {
        let files = fs::read_dir(self.folder.path()).expect("the folder is ours");
        files
            .filter_map(|file| Some(file.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .unwrap_or_else(|| panic!("baresip recorded nothing: {}", self.program.said()))
    }
}

/// A linphone in a call. It speaks what it likes best, which is µ-law here.
pub struct Linphone {
    program: Program,
    folder: Folder,
}

impl Linphone {
    /// Calls `uri` and plays a tone.
    pub fn call(uri: &str, tone_hz: u32) -> Linphone {
        let folder = Folder::new("linphone");
        let path = folder.path().display();
        let ports = free_ports(6);
        let tone = folder.path().join("tone.wav");
        sound::write_wav(&tone, tone_hz, TONE_SECONDS);
        fs::create_dir_all(folder.path().join(".local/share/linphone")).expect("the folder is ours");
        let settings = format!(
            "[sip]\nsip_port={ports}\nsip_tcp_port={ports}\nsip_tls_port=0\nuse_ipv6=0\n\
             ipv6_migration_done=1\nbind_address=127.0.0.1\nguess_hostname=0\n\
             contact=sip:linphone@127.0.0.1\nmedia_encryption=none\n[rtp]\naudio_rtp_port={}\n\
             [sound]\nechocancellation=0\n",
            ports + 2
        );
        let file = folder.path().join("linphonerc");
        fs::write(&file, settings).expect("the folder is ours");
        let mut linphone = command("linphonec");
        linphone.arg("-c").arg(&file).env("HOME", folder.path()).stdin(Stdio::piped());
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "DISPLAY"] {
            linphone.env_remove(name);
        }
        let mut program = Program::start("linphonec", "linphone-cli", folder.path(), &mut linphone);
        program.wait_to_say("linphonec>", CALL_LIMIT);
        program.tell(&format!(
            "soundcard use files\nplay {}\nrecord {path}/heard.wav\ncall {uri} --audio-only\n",
            tone.display()
        ));
        program.wait_to_say("Media streams established", CALL_LIMIT);
        Linphone { program, folder }
    }

    /// Hangs up and gives what it heard.
    pub fn hang_up(mut self) -> Heard {
        self.program.tell("terminate\n");
        self.wait_for_bye();
        self.end()
    }

    /// Waits for the call to end, by whichever side.
    pub fn wait_for_bye(&mut self) {
        self.program.wait_to_say("ended (", CALL_LIMIT);
    }

    /// Ends the phone after its call and gives what it heard.
    pub fn end(mut self) -> Heard {
        let recording = self.folder.path().join("heard.wav");
        wait_for("linphone's recording", END_LIMIT, || fs::metadata(&recording).ok());
        self.program.tell("quit\n");
        let status = self.program.wait(END_LIMIT);
        assert!(status.success(), "linphonec ended with {status}: {}", self.program.said());
        Heard::recorded(&recording)
    }
}

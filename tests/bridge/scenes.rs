//! What several scenarios begin with.

use std::time::Duration;

use confab::bridge::command::{ConferenceChange, NewConference};
use confab::bridge::resource::{Conference, ConferenceType, ConferencecallStatus};
use confab::id::ConferencecallId;

use crate::support::{PhoneId, Sim, Stage};

/// Long enough for a call to be set up or taken down on a clean link.
pub const SOON: Duration = Duration::from_millis(300);
/// Long enough for every transaction to be over.
pub const LATER: Duration = Duration::from_secs(200);

/// How one dials this conference.
pub fn uri_of(conference: &Conference) -> String {
    format!("sip:direct.{}@sip.voipbin.net", conference.direct_hash)
}

/// Another timeout and nothing else.
pub fn timeout_of(seconds: u64) -> ConferenceChange {
    ConferenceChange { timeout_s: Some(seconds), ..ConferenceChange::default() }
}

/// Direct access on or off and nothing else.
pub fn direct_access(on: bool) -> ConferenceChange {
    ConferenceChange { direct_access: Some(on), ..ConferenceChange::default() }
}

/// A conference that ends by itself.
pub fn with_timeout(seconds: u64) -> NewConference {
    NewConference { timeout_s: seconds, direct_access: true, ..NewConference::default() }
}

/// A conference of this type with so many callers in it.
pub fn filled(sim: &mut Sim, r#type: ConferenceType, callers: usize) -> (Conference, Vec<PhoneId>) {
    let conference = sim.create(r#type);
    let uri = uri_of(&conference);
    let phones = (0..callers)
        .map(|_| {
            let phone = sim.dial(&uri);
            sim.run(SOON);
            assert_eq!(sim.phones[phone].stage, Stage::InCall);
            phone
        })
        .collect();
    (sim.conference(conference.id).expect("it is live"), phones)
}

/// The status of a call that this phone makes to `uri`, once it is refused or answered.
pub fn status_of_call(sim: &mut Sim, uri: &str) -> u16 {
    let phone = sim.dial(uri);
    sim.run(SOON);
    final_status(sim, phone)
}

/// The final status of a phone's INVITE.
pub fn final_status(sim: &Sim, phone: PhoneId) -> u16 {
    let answers =
        sim.phones[phone].heard.iter().filter(|(status, method)| *status >= 200 && method == "INVITE");
    answers.map(|(status, _)| *status).next_back().expect("the INVITE was answered")
}

/// A header of the final answer that this phone got.
pub fn header_of_answer(sim: &Sim, phone: PhoneId, name: &str) -> String {
    sim.phones[phone].got.last().expect("something came").header(name).to_owned()
}

/// The conferencecall that is `joined` at this place of the conference's list.
pub fn member(sim: &mut Sim, conference: &Conference, place: usize) -> ConferencecallId {
    sim.conference(conference.id).expect("it is live").conferencecall_ids[place]
}

/// The status of a conferencecall, as it was kept.
pub fn status_of(sim: &Sim, id: ConferencecallId) -> ConferencecallStatus {
    sim.kept.calls[&id].status
}

//! SIP text, written by hand and read by looking at its lines: independent of the parser under test.

/// What came, as lines and body.
#[derive(Clone, Debug)]
pub struct Text {
    pub first: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Text {
    /// Reads a message that we know is well-formed: it comes from the code under test.
    pub fn read(bytes: &[u8]) -> Text {
        let text = String::from_utf8(bytes.to_vec()).expect("what the bridge writes is UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a blank line ends the headers");
        let mut lines = head.split("\r\n");
        let first = lines.next().expect("a start line").to_owned();
        let header = |line: &str| {
            let (name, value) =
                line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no header of ours"));
            (name.to_owned(), value.to_owned())
        };
        let headers: Vec<_> = lines.map(header).collect();
        let read = Text { first, headers, body: body.to_owned() };
        let length: usize = read.header("Content-Length").parse().expect("a length");
        assert_eq!(length, body.len(), "Content-Length lies in {text}");
        read
    }

    /// The status of a response, `None` of a request.
    pub fn status(&self) -> Option<u16> {
        self.first.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The reason phrase of a response.
    pub fn reason(&self) -> &str {
        self.first.get("SIP/2.0 200 ".len()..).unwrap_or_default()
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// The first value of this header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The number and method of CSeq.
    pub fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.header("CSeq").split_once(' ').expect("CSeq has two parts");
        (number.parse().expect("CSeq has a number"), method)
    }

    /// The tag of a From or To header; empty when there is none.
    pub fn tag(&self, name: &str) -> &str {
        self.header(name).rsplit_once(";tag=").map_or("", |(_, tag)| tag)
    }

    /// The branch of the top Via.
    pub fn branch(&self) -> &str {
        let via = self.header("Via");
        let (_, rest) = via.split_once("branch=").expect("every Via of ours has a branch");
        rest.split([';', ',']).next().unwrap_or_default()
    }

    /// The answer to a request that came.
    pub fn answer(&self, status: u16, tag: &str, contact: &str, body: &str) -> String {
        let mut text = format!("SIP/2.0 {status} Whatever\r\n");
        for (name, value) in &self.headers {
            match name.as_str() {
                "Via" | "From" | "Call-ID" | "CSeq" => text.push_str(&format!("{name}: {value}\r\n")),
                "To" if value.contains(";tag=") => text.push_str(&format!("To: {value}\r\n")),
                "To" => text.push_str(&format!("To: {value};tag={tag}\r\n")),
                _ => {}
            }
        }
        text.push_str(&format!("Contact: <{contact}>\r\n"));
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        text
    }
}

/// A session description with these formats and lines after the media line.
pub fn sdp(address: &str, port: u16, formats: &str, lines: &[&str]) -> String {
    let mut text = format!(
        "v=0\r\no=phone 7 {port} IN IP4 {address}\r\ns=call\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP {formats}\r\n"
    );
    for line in lines {
        text.push_str(&format!("a={line}\r\n"));
    }
    text
}

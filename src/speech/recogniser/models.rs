//! The files of the embedded recogniser's model: where they are, and that they are the right ones.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The command that fetches the files.
pub const FETCH: &str = "make models";

/// One file, its longest length in bytes and its SHA-256. `deploy/fetch-models.sh` has the same list.
struct File {
    name: &'static str,
    length: u64,
    sha256: &'static str,
}

const ENCODER: File = File {
    name: "encoder_model.onnx",
    length: 7_937_661,
    sha256: "c6fc4b7bc5af75c0591fd157a1f3829b533d18e9769a888fd95a62e470dd4f4a",
};
const DECODER: File = File {
    name: "decoder_model_merged.onnx",
    length: 20_243_286,
    sha256: "eed87831c3a6103534aae7d47a5d485025c659a1323901513961c39fe8a1a367",
};
const TOKENIZER: File = File {
    name: "tokenizer.json",
    length: 1_985_533,
    sha256: "b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10",
};

/// Why the model's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFilesError {
    /// One is not there.
    #[error(
        "{0} is missing; `{FETCH}` fetches it (or bash deploy/fetch-models.sh FOLDER, for another transcribe.models)"
    )]
    Missing(PathBuf),
    /// One is not what it should be.
    #[error("{0} is not the file it should be (SHA-256); delete it and fetch it again with `{FETCH}`")]
    Wrong(PathBuf),
    /// One cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The files' contents, checked.
#[derive(Debug)]
pub struct ModelFiles {
    /// Audio to hidden states: ONNX.
    pub encoder: Vec<u8>,
    /// Hidden states and tokens to the next token: ONNX.
    pub decoder: Vec<u8>,
    /// Tokens to text: tokenizer.json.
    pub tokenizer: Vec<u8>,
}

/// Whether all files are there, of the right length; their contents are only checked when they are
/// read.
///
/// # Errors
/// The first that is not.
pub fn look(folder: &Path) -> Result<(), ModelFilesError> {
    for file in [&ENCODER, &DECODER, &TOKENIZER] {
        let path = folder.join(file.name);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() == file.length => {}
            Ok(_) => return Err(ModelFilesError::Wrong(path)),
            Err(source) => return Err(failed(path, source)),
        }
    }
    Ok(())
}

/// Reads and checks all files.
///
/// # Errors
/// The first that is missing or wrong.
pub fn read(folder: &Path) -> Result<ModelFiles, ModelFilesError> {
    look(folder)?;
    Ok(ModelFiles {
        encoder: read_one(folder, &ENCODER)?,
        decoder: read_one(folder, &DECODER)?,
        tokenizer: read_one(folder, &TOKENIZER)?,
    })
}

fn read_one(folder: &Path, file: &File) -> Result<Vec<u8>, ModelFilesError> {
    let path = folder.join(file.name);
    let bytes = std::fs::read(&path).map_err(|source| failed(path.clone(), source))?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if sum == file.sha256 { Ok(bytes) } else { Err(ModelFilesError::Wrong(path)) }
}

fn failed(path: PathBuf, source: io::Error) -> ModelFilesError {
    if source.kind() == io::ErrorKind::NotFound {
        ModelFilesError::Missing(path)
    } else {
        ModelFilesError::Unreadable { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes when the test does.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("confab-models-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_missing_file_is_named_with_the_command_that_fetches_it() {
        let folder = Folder::new("missing");
        let error = look(&folder.0).expect_err("nothing is there");
        assert!(matches!(error, ModelFilesError::Missing(_)));
        let text = error.to_string();
        assert!(text.contains("encoder_model.onnx") && text.contains("make models"), "{text}");
    }

    #[test]
    fn a_file_of_the_right_length_and_wrong_content_is_refused_when_it_is_read() {
        let folder = Folder::new("wrong");
        for file in [&ENCODER, &DECODER, &TOKENIZER] {
            let made = std::fs::File::create(folder.0.join(file.name)).expect("a file");
            made.set_len(file.length).expect("its length");
        }
        look(&folder.0).expect("they look right");
        assert!(matches!(read(&folder.0), Err(ModelFilesError::Wrong(_))));
        std::fs::File::create(folder.0.join(DECODER.name)).expect("a file");
        assert!(matches!(look(&folder.0), Err(ModelFilesError::Wrong(_))));
    }

    #[test]
    fn the_script_that_fetches_them_has_the_same_sums() {
        let script = include_str!("../../../deploy/fetch-models.sh");
        for file in [&ENCODER, &DECODER, &TOKENIZER] {
            assert!(script.contains(&format!("{}  {}", file.sha256, file.name)), "{}", file.name);
        }
    }
}

//! The courier against a server that notes what it is asked: what is in flight at once, in which order, and what is not sent.

use std::path::PathBuf;
use std::sync::Mutex;

use bytes::{BufMut, BytesMut};
use pair::client::Client;
use pair::wire::{Reader, kind, next_packet, put_bytes, put_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::store::Store;

/// The server answers no WRITE before it has so many.
const WRITES: usize = 16;

type Asked = Arc<Mutex<Vec<String>>>;

/// A server that says yes to everything. When all WRITEs are there it does something else before it answers.
async fn serve(mut stream: DuplexStream, asked: Asked, meanwhile: impl FnOnce()) {
    let (mut arrived, mut out, mut waiting) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut meanwhile = Some(meanwhile);
    let yes = |out: &mut BytesMut, number: u32| {
        put_packet(out, kind::STATUS, |out| {
            out.put_u32(number);
            out.put_u32(0);
        });
    };
    loop {
        while let Some(packet) = next_packet(&mut arrived).unwrap() {
            let mut fields = Reader(&packet);
            let (request, number) = (fields.u8().unwrap(), fields.u32().unwrap());
            let name = match request {
                kind::INIT => {
                    put_packet(&mut out, kind::VERSION, |out| {
                        out.put_u32(3);
                        for text in ["fsync@openssh.com", "1", "posix-rename@openssh.com", "1", PUT, "1"] {
                            put_bytes(out, text.as_bytes());
                        }
                    });
                    continue;
                }
                kind::OPEN => "open",
                kind::WRITE => "write",
                kind::SETSTAT | kind::FSETSTAT => "attributes",
                kind::EXTENDED => std::str::from_utf8(fields.bytes().unwrap()).unwrap(),
                kind::CLOSE => "close",
                kind::RENAME => "rename",
                kind::REMOVE => "remove",
                other => panic!("asked for {other}"),
            };
            asked.lock().unwrap().push(name.to_owned());
            match request {
                kind::OPEN => put_packet(&mut out, kind::HANDLE, |out| {
                    out.put_u32(number);
                    put_bytes(out, b"handle");
                }),
                kind::WRITE => {
                    waiting.push(number);
                    if waiting.len() == WRITES {
                        if let Some(meanwhile) = meanwhile.take() {
                            meanwhile();
                        }
                        waiting.drain(..).for_each(|number| yes(&mut out, number));
                    }
                }
                _ => yes(&mut out, number),
            }
        }
        stream.write_all(&out).await.unwrap();
        out.clear();
        if stream.read_buf(&mut arrived).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

struct Scene {
    folder: tempfile::TempDir,
    courier: Courier,
    asked: Asked,
}

impl Scene {
    /// A courier with one file, `report`, of so many writes; `meanwhile` is given its path.
    async fn new(meanwhile: impl FnOnce(PathBuf) + Send + 'static) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let (data, asked) = (folder.path().join("data"), Asked::default());
        std::fs::create_dir(&data).unwrap();
        let (ours, theirs) = duplex(1 << 20);
        let report = data.join("report");
        let path = report.clone();
        tokio::spawn(serve(theirs, asked.clone(), move || meanwhile(path)));
        let client = Client::over(ours).await.unwrap();
        std::fs::write(report, vec![7; WRITES * client.write_bytes_max()]).unwrap();
        let store = Arc::new(Mutex::new(Store::open(&folder.path().join("filesync.db"), "s:1").unwrap()));
        let board = Arc::new(Board::new("s:1", Duration::from_secs(100)));
        let (source, throttle) = (Arc::new(Source::open(&data).unwrap()), Arc::new(Throttle::new(&[])));
        let courier = Courier::new(Remote::new(client, b"", true), source, Ledger::start(store), board, throttle);
        Scene { folder, courier, asked }
    }

    async fn put(&self) -> Result<(), Fault> {
        let trash = Trash::new(1);
        let put = self.courier.put(b"report", false, &trash);
        tokio::time::timeout(Duration::from_secs(30), put).await.expect("it waits for each answer by itself")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn many_writes_are_in_flight_and_the_name_comes_last() {
    let scene = Scene::new(|_| {}).await;
    scene.put().await.unwrap();
    let expected = ["open"].into_iter().chain(["write"; WRITES]);
    let expected = expected.chain(["attributes", "fsync@openssh.com", "close", "rename"]);
    assert_eq!(scene.asked(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_gets_no_name() {
    let changes: [fn(PathBuf); 3] = [
        |report| std::fs::write(report, "other").unwrap(),
        |report| std::fs::remove_file(report).unwrap(),
        |report| std::fs::rename(&report, report.with_extension("old")).unwrap(),
    ];
    for change in changes {
        let scene = Scene::new(change).await;
        assert!(matches!(scene.put().await, Err(Fault::Changed)));
        let asked = scene.asked();
        assert!(!asked.contains(&"rename".to_owned()), "{asked:?}");
        assert_eq!(asked.last().unwrap(), "remove", "the stage goes");
    }
}

#[tokio::test]
async fn a_small_new_file_costs_one_request() {
    let scene = Scene::new(|_| {}).await;
    let file = scene.folder.path().join("data/report");
    std::fs::write(&file, vec![7; PLACED_BYTES]).unwrap();
    scene.put().await.unwrap();
    assert_eq!(scene.asked(), [PUT]);
}

/// Asked again, a folder would tell a time that something has given it that came into it meanwhile.
#[tokio::test]
async fn what_our_own_server_was_told_it_is_not_asked_for() {
    let scene = Scene::new(|_| {}).await;
    let entry = scene.courier.source.look(b"report").unwrap();
    scene.courier.set_attributes(b"report", &entry).await.unwrap();
    assert_eq!(scene.asked(), ["attributes"]);
}

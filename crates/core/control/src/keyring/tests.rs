use std::sync::Arc;

use longshore_types::SeededEnv;
use model::Row;
use store::{MemoryStore, Store};

use super::*;
use crate::testing::TestControl;
use crate::{Config, Keys, Parts};

struct World {
    dir: tempfile::TempDir,
    env: Arc<SeededEnv>,
    store: Arc<dyn Store>,
}

impl World {
    fn new() -> Self {
        let env = Arc::new(SeededEnv::from_seed(1));
        Self { dir: tempfile::tempdir().unwrap(), env, store: Arc::new(MemoryStore::new()) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(ROOT_KEY_FILE)
    }

    fn load(&self, source: &RootKeySource) -> Result<RootKeys, RootKeyError> {
        RootKeys::load(source, self.dir.path(), &self.store.latest(), self.env.as_ref())
    }

    fn control(&self, root_keys: RootKeys) -> Control {
        let listen = ([127, 0, 0, 1], 4566).into();
        let config = Config::new("us-east-1".parse().unwrap(), listen, self.dir.path().to_owned());
        let (clock, ids) = (Arc::clone(&self.env) as _, Arc::clone(&self.env) as _);
        let keys = Keys::mint(self.env.as_ref());
        let store = Arc::clone(&self.store);
        Control::new(config, Parts { store, clock, ids, keys, root_keys })
    }

    /// Seals something by a key that is made for it.
    async fn seal(&self, control: &Control) -> Vec<u8> {
        let decided = control.decide(|view, now| {
            let mut batch = Batch::on(view);
            let account = Config::root_account();
            let named = control.managed_key(view, &mut batch, account, "ssm", now);
            let sealed = control.seal_by(&named.key, b"row", b"plain")?;
            Ok((batch, sealed))
        });
        decided.await.unwrap()
    }
}

fn opened(control: &Control, sealed: &[u8]) -> String {
    let plain = control.open_sealed(&control.view(), b"row", sealed).unwrap();
    String::from_utf8(plain.to_vec()).unwrap()
}

#[test]
fn a_first_start_makes_the_root_key_for_its_owner_only() {
    let world = World::new();
    let made = world.load(&RootKeySource::DataDir).unwrap();
    let mode = fs::metadata(world.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = world.load(&RootKeySource::DataDir).unwrap();
    assert_eq!(again.fingerprint(), made.fingerprint());
    let elsewhere = RootKeySource::File(world.dir.path().join("other"));
    assert_ne!(world.load(&elsewhere).unwrap().fingerprint(), made.fingerprint());
}

#[tokio::test]
async fn once_something_is_sealed_no_start_makes_another_root_key() {
    let world = World::new();
    let control = world.control(world.load(&RootKeySource::DataDir).unwrap());
    world.seal(&control).await;
    let kept = fs::read(world.file()).unwrap();
    fs::remove_file(world.file()).unwrap();
    let missing = world.load(&RootKeySource::DataDir).unwrap_err().to_string();
    assert!(missing.contains("root.key is missing, and 1 keys"), "{missing}");
    assert!(!world.file().exists(), "nothing is written in its place");

    let other = RootKey::mint(world.env.as_ref());
    write(&world.file(), &other).unwrap();
    let wrong = world.load(&RootKeySource::DataDir).unwrap_err();
    assert!(matches!(wrong, RootKeyError::Other { .. }), "{wrong}");
    assert!(wrong.to_string().contains(&other.fingerprint().to_string()), "{wrong}");
    let kept_other = RootKey::parse(&fs::read_to_string(world.file()).unwrap()).unwrap();
    assert_eq!(kept_other.fingerprint(), other.fingerprint(), "it is left as it was");

    let key = Token::from_text(String::from_utf8(kept).unwrap());
    let given = RootKeySource::Given { key, from: "LONGSHORE_ROOT_KEY" };
    assert!(world.load(&given).is_ok());
    let key = Token::from_text("swordfish".to_owned());
    let given = RootKeySource::Given { key, from: "LONGSHORE_ROOT_KEY" };
    let why = world.load(&given).unwrap_err().to_string();
    assert!(why.starts_with("LONGSHORE_ROOT_KEY holds no root key"), "{why}");
    assert!(!why.contains("swordfish"));
}

#[test]
fn a_file_that_others_may_read_or_that_holds_no_key_is_refused() {
    let world = World::new();
    world.load(&RootKeySource::DataDir).unwrap();
    fs::set_permissions(world.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let wide = world.load(&RootKeySource::DataDir).unwrap_err();
    assert!(matches!(wide, RootKeyError::Wide { mode: 0o640, .. }), "{wide}");
    for text in ["", "not a key"] {
        fs::write(world.file(), text).unwrap();
        let refused = world.load(&RootKeySource::DataDir).unwrap_err();
        assert!(matches!(refused, RootKeyError::NotAKey { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_change_of_the_root_key_goes_on_wherever_it_was_stopped() {
    for stop in 0..3 {
        let world = World::new();
        let before = world.control(world.load(&RootKeySource::DataDir).unwrap());
        let sealed = world.seal(&before).await;
        RootKeys::begin_change(&world.file(), world.env.as_ref()).unwrap();
        if 0 < stop {
            let during = world.control(world.load(&RootKeySource::DataDir).unwrap());
            assert_eq!(opened(&during, &sealed), "plain", "both keys are known meanwhile");
            if 1 < stop {
                let row = during.view().kms_keys.iter().next().unwrap().clone();
                let rewrapped = during.rewrapped(&row).unwrap();
                during.store.submit(batch_of(&during, rewrapped)).unwrap().await.unwrap();
            }
        }
        let after = world.control(world.load(&RootKeySource::DataDir).unwrap());
        after.finish_root_key_change().await.unwrap();
        assert!(!next_to(&world.file()).exists());
        let loaded = world.load(&RootKeySource::DataDir).unwrap();
        assert_ne!(loaded.fingerprint(), before.root_keys.fingerprint());
        assert_eq!(loaded.held().others.len(), 0);
        let anew = world.control(loaded);
        assert_eq!(opened(&anew, &sealed), "plain", "what was sealed was not touched");
        assert_eq!(anew.finish_root_key_change().await.unwrap(), 0);
        assert!(
            before.open_sealed(&anew.view(), b"row", &sealed).is_err(),
            "the old one opens nothing"
        );
    }
}

fn batch_of(control: &Control, row: impl Into<Row>) -> Batch {
    let mut batch = Batch::on(&control.store.latest());
    batch.put(row);
    batch
}

#[tokio::test]
async fn a_root_key_that_was_handed_over_gives_way_to_another() {
    let world = World::new();
    let [old, new] = [0; 2].map(|_| RootKey::mint(world.env.as_ref()));
    let before = world.control(RootKeys::of(old.clone()));
    let sealed = world.seal(&before).await;
    let during = world.control(RootKeys::changed(new.clone(), &RootKeys::of(old)));
    assert_eq!(during.finish_root_key_change().await.unwrap(), 1);
    assert_eq!(opened(&world.control(RootKeys::of(new)), &sealed), "plain");
}

fn access_key(id: &str, sealed_secret: String) -> IamAccessKey {
    IamAccessKey {
        account: Config::root_account(),
        id: id.into(),
        user: "AIDA".into(),
        is_active: true,
        created_at: longshore_types::Timestamp(0),
        sealed_secret,
    }
}

#[tokio::test]
async fn access_keys_of_before_come_under_the_root_key_and_go_on_with_another() {
    let world = World::new();
    let control = world.control(world.load(&RootKeySource::DataDir).unwrap());
    let secret = Token::from_text("swordfish".to_owned());
    let older = control.access.seal_secret_as_before(world.env.as_ref(), "AKIA1", &secret);
    control.store.submit(batch_of(&control, access_key("AKIA1", older))).unwrap().await.unwrap();
    let broken = access_key("AKIA2", "AAAA".to_owned());
    control.store.submit(batch_of(&control, broken.clone())).unwrap().await.unwrap();
    let row = |id: &str| {
        let view = control.view();
        IamAccessKey::clone(view.iam_access_keys.get(Config::root_account(), &id.into()).unwrap())
    };
    assert_eq!(control.access.open_secret(&row("AKIA1")), Some(secret.clone()));
    for _ in 0..2 {
        control.raise_access_keys().await.unwrap();
    }
    let (wrapped, _) =
        parts(&row("AKIA1").sealed_secret).map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(RootKey::wrapped_by(&wrapped), Some(control.root_keys.fingerprint()));
    assert_eq!(control.access.open_secret(&row("AKIA1")), Some(secret.clone()));
    assert_eq!(row("AKIA2"), broken, "what nobody can open is left");
    let elsewhere = access_key("AKIA3", row("AKIA1").sealed_secret);
    assert_eq!(control.access.open_secret(&elsewhere), None, "it is bound to its id");

    fs::rename(world.file(), world.dir.path().join("kept")).unwrap();
    let missing = world.load(&RootKeySource::DataDir).unwrap_err();
    assert!(matches!(missing, RootKeyError::Missing { rows: 1, .. }), "{missing}");
    fs::rename(world.dir.path().join("kept"), world.file()).unwrap();
    RootKeys::begin_change(&world.file(), world.env.as_ref()).unwrap();
    let next = world.control(world.load(&RootKeySource::DataDir).unwrap());
    assert_eq!(next.finish_root_key_change().await.unwrap(), 1);
    let anew = world.load(&RootKeySource::DataDir).unwrap();
    assert_eq!(anew.held().others.len(), 0);
    assert_eq!(world.control(anew).access.open_secret(&row("AKIA1")), Some(secret));
    assert_eq!(control.access.open_secret(&row("AKIA1")), None, "the old one opens nothing");
}

#[tokio::test]
async fn the_root_key_of_a_region_that_runs_gives_way_under_those_that_seal_and_open() {
    let world = World::new();
    let control = Arc::new(world.control(world.load(&RootKeySource::DataDir).unwrap()));
    let sealed = world.seal(&control).await;
    let before = control.root_keys.fingerprint();
    let secret = Token::from_text("swordfish".to_owned());
    let kept = control.access.seal_secret(world.env.as_ref(), "AKIA1", &secret);
    control.store.submit(batch_of(&control, access_key("AKIA1", kept))).unwrap().await.unwrap();
    let (changed, more) = tokio::join!(control.change_root_key(), async {
        let mut more = Vec::new();
        for n in 0..20 {
            let made = control.decide(|view, now| {
                let mut batch = Batch::on(view);
                let account = format!("{n:012}").parse().unwrap();
                let named = control.managed_key(view, &mut batch, account, "ssm", now);
                Ok((batch, control.seal_by(&named.key, b"row", b"plain")?))
            });
            more.push(made.await.unwrap());
            assert_eq!(opened(&control, &sealed), "plain");
            tokio::task::yield_now().await;
        }
        more
    });
    let (now, _) = changed.unwrap();
    assert_ne!(now, before);
    assert!(!next_to(&world.file()).exists());
    let loaded = world.load(&RootKeySource::DataDir).unwrap();
    assert_eq!(loaded.fingerprint(), now);
    let anew = world.control(loaded);
    for each in more.iter().chain([&sealed]) {
        assert_eq!(opened(&anew, each), "plain", "nothing is left under the old one");
        assert_eq!(opened(&control, each), "plain");
    }
    let row = IamAccessKey::clone(control.view().iam_access_keys.iter().next().unwrap());
    assert_eq!(anew.access.open_secret(&row), Some(secret));

    let mut config = control.config.clone();
    config.root_key = RootKeySource::Given { key: Token::from_text(String::new()), from: "a test" };
    let elsewhere =
        Control { config, ..world.control(world.load(&RootKeySource::DataDir).unwrap()) };
    let why = elsewhere.change_root_key().await.unwrap_err().to_string();
    assert!(why.contains("--new-root-key-file"), "{why}");
}

#[test]
fn no_key_is_printed() {
    let control = TestControl::new().control;
    let printed = format!("{:?}", control.root_keys);
    assert!(!printed.contains(control.root_keys.held().current.text().as_str()), "{printed}");
}

//! Wishes, right and wrong, and what is written of plans.

use super::*;
use crate::config::Config;

fn config() -> Config {
    Config {
        targets: vec!["master=10.0.0.4:2222".into(), "10.0.0.6:22".into()],
        standbys: vec!["standby=10.0.0.5:2222".into()],
        ..Config::default()
    }
}

fn wish() -> Wish {
    Wish { target: "master".into(), account: "EPuser".into(), ..Wish::default() }
}

/// The field of the only mistake, with its sentence.
fn mistake(wish: Wish) -> (&'static str, String) {
    let mistakes = wish.check(&config()).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    (mistakes[0].field, mistakes[0].sentence.clone())
}

#[test]
fn a_wish_of_empty_texts_is_the_default() {
    let empty = Wish {
        files: String::new(),
        sizes: " ".into(),
        clients: String::new(),
        in_flight: String::new(),
        mix: String::new(),
        verify: String::new(),
        seed: "7".into(),
        ..wish()
    };
    assert_eq!(empty.check(&config()).unwrap(), Wish { seed: "7".into(), ..wish() }.check(&config()).unwrap());
}

#[test]
fn a_wish_becomes_the_plan_that_is_meant() {
    let wish = Wish {
        target: "10.0.0.4:2222".into(),
        files: "10000".into(),
        sizes: "4KiB..1MiB".into(),
        clients: "16".into(),
        mix: "upload=70, download=20,list=5,rename=5".into(),
        duration: "60s".into(),
        ramp: "5s".into(),
        verify: "standby".into(),
        seed: "42".into(),
        ..wish()
    };
    let plan = wish.check(&config()).unwrap();
    assert_eq!(plan.target.name, "master");
    assert_eq!(plan.standbys, [Target { name: "standby".into(), address: "10.0.0.5:2222".into() }]);
    assert_eq!((plan.files, plan.clients, plan.seed), (10_000, 16, 42));
    assert_eq!(plan.sizes, Sizes::Range(4096, 1 << 20));
    assert_eq!(plan.mix, Mix { upload: 70, download: 20, list: 5, rename: 5 });
    assert_eq!((plan.duration, plan.ramp), (Some(Duration::from_secs(60)), Duration::from_secs(5)));
    assert_eq!(plan.verify, Verify::Standby);
}

#[test]
fn every_mistake_is_told_by_its_field_and_all_at_once() {
    let wrong = |change: fn(&mut Wish)| {
        let mut wish = wish();
        change(&mut wish);
        mistake(wish)
    };
    let cases: [(&str, &str, (&str, String)); 13] = [
        ("target", "choose one of master, 10.0.0.6:22", wrong(|wish| wish.target = "evil:22".into())),
        (
            "standbys",
            "\"other\" is not configured",
            wrong(|wish| {
                wish.verify = "standby".into();
                wish.standbys = vec!["other".into()];
            }),
        ),
        ("account", "who logs in", wrong(|wish| wish.account = " ".into())),
        ("files", "between 1 and 100000", wrong(|wish| wish.files = "0".into())),
        ("files", "between 1 and 100000", wrong(|wish| wish.files = "100001".into())),
        (
            "files",
            "20.00 GiB",
            wrong(|wish| {
                wish.files = "100000".into();
                wish.sizes = "1MiB".into();
            }),
        ),
        ("sizes", "4KiB..1MiB or realistic", wrong(|wish| wish.sizes = "big".into())),
        ("sizes", "the first size is the smaller", wrong(|wish| wish.sizes = "2MiB..1MiB".into())),
        ("sizes", "2GiB at most", wrong(|wish| wish.sizes = "1KiB..3GiB".into())),
        ("clients", "between 1 and 64", wrong(|wish| wish.clients = "65".into())),
        ("mix", "the shares make 90", wrong(|wish| wish.mix = "upload=90".into())),
        ("duration", "3600 s at most", wrong(|wish| wish.duration = "2h".into())),
        ("verify", "nothing, target or standby", wrong(|wish| wish.verify = "all".into())),
    ];
    for (field, sentence, (found, told)) in cases {
        assert_eq!(field, found);
        assert!(told.contains(sentence), "{told}");
    }
    let all = Wish { files: "x".into(), sizes: "x".into(), mix: "x".into(), seed: "x".into(), ..wish() };
    let fields: Vec<_> = all.check(&config()).unwrap_err().into_iter().map(|mistake| mistake.field).collect();
    assert_eq!(fields, ["files", "sizes", "mix", "seed"]);
}

#[test]
fn sizes_and_mixes_are_shown_as_they_were_written() {
    for text in ["4KiB", "4KiB..1MiB", "realistic", "0B", "1000B", "2GiB", "0B..100B", "1TiB"] {
        assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
    }
    let mix = "upload=70,download=20,list=5,rename=5";
    assert_eq!(mix.parse::<Mix>().unwrap().to_string(), mix);
    assert_eq!("download=50,upload=50".parse::<Mix>().unwrap(), Mix { upload: 50, download: 50, list: 0, rename: 0 });
}

#[test]
fn the_realistic_mix_has_many_small_files_and_few_large_ones() {
    let sizes: Vec<u64> = (0..20_000).map(|number| Sizes::Realistic.of(1, number)).collect();
    let small = sizes.iter().filter(|size| **size <= 16 << 10).count();
    let large = sizes.iter().filter(|size| **size > 2 << 20).count();
    assert!((11_000..13_000).contains(&small) && (100..350).contains(&large), "{small} {large}");
    assert_eq!(Sizes::Realistic.sum(1, 20_000), sizes.iter().sum::<u64>());
    assert!(sizes.iter().all(|size| (1 << 10..=64 << 20).contains(size)));
}

#[test]
fn a_server_is_written_with_or_without_a_name() {
    let right: Target = "master = [::1]:2222".parse().unwrap();
    assert_eq!((right.name.as_str(), right.address.as_str()), ("master", "[::1]:2222"));
    for wrong in ["", "host", "host:", ":22", "host:0", "host:70000", "=host:22", "a b:22"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}

//! Real inotify on real files.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::symlink;

use super::*;

/// Everything there is to read at this moment.
fn news(watch: &ConfigWatch) -> News {
    let mut all = News::default();
    while let Ok(news) = watch.read() {
        all.changed |= news.changed;
        all.moved |= news.moved;
    }
    all
}

struct Scene {
    root: tempfile::TempDir,
    places: Places,
    watch: ConfigWatch,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["pmon.d", "pmon"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let places = Places {
            directories: vec![root.path().join("pmon.d"), root.path().join("pmon/conf.d")],
            files: vec![root.path().join("pmon/pmon.toml")],
        };
        let mut watch = ConfigWatch::new().unwrap();
        watch.establish(&places).unwrap();
        assert_eq!(news(&watch), News::default());
        Self {
            root,
            places,
            watch,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "x").unwrap();
    }

    fn establish(&mut self) {
        self.watch.establish(&self.places).unwrap();
        news(&self.watch);
    }

    fn is_news(&mut self, what: &str) {
        assert!(news(&self.watch).changed, "{what}");
        self.establish();
    }

    fn is_no_news(&self, what: &str) {
        assert_eq!(news(&self.watch), News::default(), "{what}");
    }
}

#[test]
fn files_count_and_what_editors_write_beside_them_does_not() {
    let mut scene = Scene::new();
    for name in ["pmon.d/web", "pmon.d/web.bak", "pmon/pmon.toml"] {
        scene.write(name);
        scene.is_news(name);
        scene.write(name);
        scene.is_news(name);
        fs::remove_file(scene.path(name)).unwrap();
        scene.is_news(name);
    }
    for name in [
        "pmon.d/.web.swp",
        "pmon.d/.web.swpx",
        "pmon.d/.web.swx",
        "pmon.d/web~",
        "pmon.d/4913",
        "pmon.d/sedA1b2C3",
        "pmon.d/#web#",
        "pmon/pmon.toml~",
        "pmon/other.toml",
        "unrelated",
    ] {
        scene.write(name);
        fs::remove_file(scene.path(name)).unwrap();
        scene.is_no_news(name);
    }
    symlink("user@host.17", scene.path("pmon.d/.#web")).unwrap();
    scene.is_no_news("an Emacs lock");
    // A package's or puppet's way: written elsewhere and moved into place (S17).
    scene.write("web.new");
    fs::rename(scene.path("web.new"), scene.path("pmon.d/web")).unwrap();
    scene.is_news("moved into place");
    // sed's way.
    scene.write("pmon.d/sedZ9y8X7");
    fs::rename(scene.path("pmon.d/sedZ9y8X7"), scene.path("pmon.d/web")).unwrap();
    scene.is_news("`sed -i`");
}

#[test]
fn what_links_lead_to_counts() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.path("else/where")).unwrap();
    scene.write("else/where/real");
    symlink("../else/link", scene.path("pmon.d/web")).unwrap();
    symlink("where/real", scene.path("else/link")).unwrap();
    scene.is_news("the link");
    scene.write("else/where/real");
    scene.is_news("its target's content");
    scene.write("else/where/real.new");
    scene.write("else/other");
    scene.is_no_news("beside the target");
    fs::rename(
        scene.path("else/where/real.new"),
        scene.path("else/where/real"),
    )
    .unwrap();
    scene.is_news("another target in its place");
    fs::remove_file(scene.path("else/link")).unwrap();
    scene.is_news("the link in between");
    symlink("where/gone", scene.path("else/link")).unwrap();
    scene.is_news("the link in between, again");
    scene.write("else/where/gone");
    scene.is_news("what it leads to, at last");
    // As containers do: a link to a directory is exchanged.
    fs::create_dir_all(scene.path("else/v1")).unwrap();
    fs::create_dir_all(scene.path("else/v2")).unwrap();
    scene.write("else/v1/web");
    symlink("v1", scene.path("else/data")).unwrap();
    symlink("../else/data/web", scene.path("pmon.d/web2")).unwrap();
    scene.is_news("a link through a link");
    symlink("v2", scene.path("else/data.new")).unwrap();
    fs::rename(scene.path("else/data.new"), scene.path("else/data")).unwrap();
    scene.is_news("the link to a directory");
    // A circle ends.
    symlink("circle", scene.path("pmon.d/circle")).unwrap();
    scene.is_news("a circle");
}

#[test]
fn directories_that_go_come_and_are_exchanged() {
    let mut scene = Scene::new();
    fs::remove_dir(scene.path("pmon.d")).unwrap();
    scene.is_news("it is gone");
    fs::create_dir(scene.path("pmon.d")).unwrap();
    scene.is_news("it is there again");
    scene.write("pmon.d/web");
    scene.is_news("a file in it");
    fs::create_dir(scene.path("new")).unwrap();
    fs::rename(scene.path("pmon.d"), scene.path("old")).unwrap();
    fs::rename(scene.path("new"), scene.path("pmon.d")).unwrap();
    scene.is_news("another in its place");
    scene.write("old/web");
    scene.is_no_news("the old one");
    scene.write("pmon.d/web");
    scene.is_news("the new one");
    // One that was not there from the beginning, and its parent with it.
    fs::create_dir(scene.path("pmon/conf.d")).unwrap();
    scene.is_news("conf.d");
    scene.write("pmon/conf.d/a.toml");
    scene.is_news("a file in conf.d");
    fs::remove_dir_all(scene.path("pmon")).unwrap();
    scene.is_news("all of it");
    fs::create_dir_all(scene.path("pmon/conf.d")).unwrap();
    scene.is_news("all of it again");
    scene.write("pmon/conf.d/a.toml");
    scene.is_news("a file in it again");
    // Two places, one directory.
    fs::remove_dir_all(scene.path("pmon.d")).unwrap();
    symlink("pmon/conf.d", scene.path("pmon.d")).unwrap();
    scene.is_news("a link in its place");
    scene.write("pmon/conf.d/b.toml");
    scene.is_news("behind the link");
}

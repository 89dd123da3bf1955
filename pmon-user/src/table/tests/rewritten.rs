//! Entries of the kernel's table that somebody else has changed, with the tool
//! with which people do such things.

use super::*;

impl World {
    /// The whole comparison.
    fn reconcile(&mut self) -> Reconciled {
        let mut all = Reconciled::default();
        self.table.begin_comparison();
        while let Some(some) = self.table.compare_some(&self.epoll) {
            all.orphans.extend(some.orphans);
            all.altered.extend(some.altered);
        }
        all
    }

    /// Runs `bpftool map VERB` on the table; `None` where there is no bpftool.
    fn bpftool(&self, verb: &str, pid: u32, entry: Option<Registration>) -> Option<()> {
        let maps = self.table.kernel().unwrap().maps();
        let map = maps.iter().find(|map| map.name == pmon_common::PIDS_MAP);
        let mut command = Command::new("bpftool");
        command.args(["map", verb, "id", &map.unwrap().id.to_string(), "key"]);
        command.args(pid.to_ne_bytes().map(|byte| byte.to_string()));
        if let Some(entry) = entry {
            command.arg("value");
            let mut value = Vec::new();
            value.extend(entry.start_time.to_ne_bytes());
            value.extend(entry.generation.to_ne_bytes());
            value.extend(entry.died_at.to_ne_bytes());
            value.extend(entry.exit_code.to_ne_bytes());
            value.extend(entry.flags.to_ne_bytes());
            value.resize(size_of::<Registration>(), 0);
            command.args(value.iter().map(u8::to_string));
        }
        match command.output() {
            Ok(output) => {
                assert!(output.status.success(), "{output:?}");
                Some(())
            }
            Err(error) => {
                println!("SKIP: no bpftool: {error}");
                None
            }
        }
    }
}

#[test]
fn entries_are_put_right_and_no_death_is_lost() {
    // With pidfds of their own, and without.
    for own in [100, 0] {
        let Some(World { table, epoll }) = World::with_kernel(64) else {
            return;
        };
        let table = table.with_budget(Budget { own, on_demand: 10 });
        let mut world = World { table, epoll };
        let children: Vec<Sleeper> = (0..5).map(|_| Sleeper::spawn()).collect();
        let registered: Vec<_> = children
            .iter()
            .map(|child| world.register("a", child.pid()))
            .collect();
        world.answer();
        assert_eq!(world.reconcile(), Reconciled::default());

        let entry = |number: usize| Registration {
            start_time: registered[number].0.start_time,
            generation: registered[number].1.generation,
            ..Registration::default()
        };
        let other_generation = Registration {
            generation: 4711,
            ..entry(0)
        };
        let other_start = Registration {
            start_time: 1,
            ..entry(1)
        };
        let steps = [
            world.bpftool("update", children[0].pid(), Some(other_generation)),
            world.bpftool("update", children[1].pid(), Some(other_start)),
            world.bpftool("delete", children[2].pid(), None),
            // No process has this pid; the entry is nobody's.
            world.bpftool("update", 1 << 30, Some(entry(3))),
        ];
        if steps.contains(&None) {
            return;
        }
        let wrong = Reconciled {
            orphans: vec![Orphan {
                pid: 1 << 30,
                generation: registered[3].1.generation,
            }],
            altered: vec![EntityName::from("a"); 3],
        };
        assert_eq!(world.reconcile(), wrong);
        assert!(world.answer().is_empty());
        assert_eq!(world.reconcile(), Reconciled::default());
        assert_eq!(world.table.kernel().unwrap().entries(), 5);
        for (child, (identity, registered)) in children.iter().zip(&registered) {
            let found = world.table.kernel().unwrap().get(child.pid()).unwrap();
            assert_eq!(found.generation, registered.generation);
            assert_eq!(found.start_time, identity.start_time);
        }

        // Rewritten once more, and dead before anybody looks.
        world.bpftool(
            "update",
            children[3].pid(),
            Some(Registration {
                generation: 4711,
                ..entry(3)
            }),
        );
        world.bpftool(
            "update",
            children[4].pid(),
            Some(Registration {
                start_time: 1,
                ..entry(4)
            }),
        );
        for mut child in children {
            child.end();
        }
        let (_, mut ended) = world.told();
        world.reconcile();
        ended.extend(world.told().1);
        let mut generations: Vec<_> = ended
            .iter()
            .map(|ended| match ended {
                Ended::Died(_, death) => death.generation,
                Ended::Followed(_) | Ended::Gone(..) | Ended::StatusKnown { .. } => {
                    panic!("{ended:?}")
                }
            })
            .collect();
        generations.sort_unstable();
        let expected: Vec<_> = registered.iter().map(|(_, it)| it.generation).collect();
        assert_eq!(generations, expected);
        // What was put right told when and how.
        let told =
            |ended: &&Ended| matches!(ended, Ended::Died(_, death) if death.died_at.is_some());
        assert!(ended.iter().filter(told).count() >= 3);
        world.all_on_record(&ended);
    }
}

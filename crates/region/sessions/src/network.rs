//! What an agent of ours is told of its host's network: the security groups of the interfaces there, each
//! again when it changed.
//!
//! It leaves on the work socket ahead of the tasks that need it, so that an agent that takes messages in their
//! order never makes an interface whose groups it does not know. A host hears of no group that none of its
//! tasks has.

use std::collections::BTreeMap;

use longshore_types::{AccountId, InstanceId, SecurityGroupId};
use model::{Key, Seq, Task, View};
use traffic::SecurityGroup;

/// Rules of one message, of which each is below 100 bytes: a frame stays well below its limit.
const RULES_PER_MESSAGE_MAX: usize = 4_000;

/// What one session told so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The commit that last wrote each group; none: an account's default group that nobody changed.
    groups: BTreeMap<(AccountId, SecurityGroupId), Option<Seq>>,
    is_begun: bool,
}

/// What is to be told next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) is_whole: bool,
    pub(crate) version: Seq,
    pub(crate) groups: Vec<SecurityGroup>,
}

impl Told {
    /// What the instance's agent must hear before it is sent `next`. At first all that concerns the instance.
    pub(crate) fn due(
        &mut self,
        view: &View,
        instance: InstanceId,
        next: &[&Task],
    ) -> Option<News> {
        let is_whole = !self.is_begun;
        let mut changed = Vec::new();
        if is_whole {
            self.groups.clear();
            for task in view.tasks_on_instance(instance) {
                self.add(view, task, &mut changed);
            }
        }
        for task in next {
            self.add(view, task, &mut changed);
        }
        // Of a group that is gone nobody has an interface any more.
        self.groups.retain(|(account, id), told| {
            let now = view.seq_of(&Key::SecurityGroup(*account, id.clone()));
            if now == *told {
                return true;
            }
            *told = now;
            let group = view.security_group(*account, id).map(|whole| whole.compile());
            let is_there = group.is_some();
            changed.extend(group);
            is_there
        });
        self.is_begun = true;
        let groups = changed;
        (is_whole || !groups.is_empty()).then_some(News { is_whole, version: view.seq, groups })
    }

    fn add(&mut self, view: &View, task: &Task, changed: &mut Vec<SecurityGroup>) {
        let account = task.scope.account;
        for id in task.interface.iter().flat_map(|interface| &interface.security_groups) {
            let key = (account, id.clone());
            if self.groups.contains_key(&key) {
                continue;
            }
            let Some(whole) = view.security_group(account, id) else { continue };
            let seq = view.seq_of(&Key::SecurityGroup(account, id.clone()));
            self.groups.insert(key, seq);
            changed.push(whole.compile());
        }
    }

    /// The agent could not do as it was told: it is told all again.
    pub(crate) fn begin_again(&mut self) {
        self.is_begun = false;
    }
}

impl News {
    /// In parts that fit a message each, at least one.
    pub(crate) fn parts(self) -> Vec<Vec<SecurityGroup>> {
        let mut parts = vec![Vec::new()];
        let mut rules = 0;
        for group in self.groups {
            let its = group.ingress.len() + group.egress.len();
            if rules > 0 && rules + its > RULES_PER_MESSAGE_MAX {
                parts.push(Vec::new());
                rules = 0;
            }
            rules += its;
            parts.last_mut().expect("there is a first part").push(group);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use control::testing::rows::task;
    use model::vpc::AddressPlan;
    use model::{Row, SecurityGroup as GroupRow};

    use super::*;

    fn world() -> (View, Task) {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = AddressPlan { block, bridge: None, seed: 7 };
        let mut task = task(1);
        let group = plan.default_group(task.scope.account).group.id;
        view.put(Seq(1), &Row::from(plan));
        task.interface.as_mut().unwrap().security_groups = vec![group];
        (view, task)
    }

    #[test]
    fn a_group_is_told_once_and_again_when_it_changed() {
        let (mut view, task) = world();
        let instance: InstanceId = "0".repeat(32).parse().unwrap();
        let mut told = Told::default();
        let first = told.due(&view, instance, &[]).unwrap();
        assert!(
            first.is_whole && first.groups.is_empty(),
            "that there is nothing is news at first"
        );
        let group = task.interface.as_ref().unwrap().security_groups[0].clone();
        let news = told.due(&view, instance, &[&task]).unwrap();
        assert!(!news.is_whole);
        assert_eq!(news.groups, [SecurityGroup::default_rules(group.clone())]);
        assert_eq!(told.due(&view, instance, &[&task]), None);
        let whole = view.security_group(task.scope.account, &group).unwrap();
        view.put(Seq(2), &Row::from(GroupRow { revision: 1, ..whole.group }));
        let news = told.due(&view, instance, &[]).unwrap();
        assert_eq!(news.groups, [SecurityGroup::closed(group)], "its rules are no rows");
        assert_eq!(told.due(&view, instance, &[&task]), None);
        told.begin_again();
        assert!(told.due(&view, instance, &[&task]).unwrap().is_whole);
    }

    #[test]
    fn many_rules_are_told_in_parts() {
        let (_, task) = world();
        let group = task.interface.as_ref().unwrap().security_groups[0].clone();
        let mut group = SecurityGroup::default_rules(group);
        group.ingress = vec![group.ingress[0].clone(); 1_500];
        let news = News { is_whole: true, version: Seq(1), groups: vec![group; 5] };
        let parts: Vec<usize> = news.parts().iter().map(Vec::len).collect();
        assert_eq!(parts, [2, 2, 1]);
        let none = News { is_whole: true, version: Seq(1), groups: vec![] };
        assert_eq!(none.parts(), [vec![]]);
    }
}

//! The order of service: by priority, then by arrival.
//!
//! Items of equal priority form a *level*: a list through their slots, from the head, which arrived first, to the tail.
//! Levels stand in the leaves of a tree, the least urgent first. An item that is neither head nor tail of its level
//! leaves by its links alone; the head and the tail know the leaf of their level and find it there. So removal compares
//! nothing, and both ends are at hand.
//!
//! **Priorities are not cloned.** The level has the priority of its head; the other items have their own. When the head
//! leaves with its priority, that of its successor moves into the level.
//!
//! **The tree** is a B+ tree. A branch stands for a node of the next tier and names the leaf at which that begins: the
//! first level there is what a search compares with, since a copy of its priority is not to be had. A full node is
//! split in two; a leaf that has become sparse is merged with its neighbour; an empty node is removed. The first leaf,
//! node 0, always stays, since no search compares with it.
//!
//! **Several levels of one priority.** A parked item that is admitted may have arrived before some of its admitted
//! equals. No level is searched for its place: an item that arrives begins a new level of its priority if a push was
//! parked since the last one arrived there. So no parked item has arrived between two items of one level, and it goes
//! behind a whole level or before it. Among levels of one priority the newest is the least urgent.
//!
//! **Comparisons are user code.** They happen in [`find`](Order::find) and [`find_older`](Order::find_older), which
//! change nothing. What they return holds until the order changes.

use std::mem::{replace, take};

use super::items::{Items, NIL, Place, Slot};

/// The most branches of a node, and the most levels of a leaf unless they are large. Few in models, fuzzers and unit
/// tests, so that they reach higher trees.
const FANOUT: usize = if cfg!(any(loom, fuzzing, test)) { 4 } else { 128 };

/// A leaf with larger levels holds fewer of them.
const LEAF_BYTES: usize = 8 * 1024;

pub(super) struct Order<P> {
    len: usize,
    nodes: Vec<Node<P>>,
    /// The first vacant node; the others follow by `next`.
    vacant: u32,
    root: u32,
    /// The most urgent leaf.
    last: u32,
}

struct Node<P> {
    /// The least urgent first; none of them in a node that is not a leaf.
    levels: Vec<Level<P>>,
    /// Likewise; none of them in a leaf.
    branches: Vec<Branch>,
    parent: u32,
    /// The neighbours of a leaf.
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy)]
struct Branch {
    node: u32,
    /// The first leaf below the node. That of the very first branch is never read.
    leaf: u32,
}

struct Level<P> {
    /// That of the head.
    priority: P,
    head: u32,
    tail: u32,
}

/// Where a level is, or would be.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    leaf: u32,
    index: usize,
    /// If so, an item goes behind the tail of the level; if not, it begins one.
    exists: bool,
}

/// A spot that holds although the order changes, as long as a certain item heads its level.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// In the level of this head.
    In(u32),
    /// In a new level, just less urgent than the level of this head.
    Below(u32),
    /// In a new level, more urgent than all.
    Top,
}

/// The searches: user code compares priorities.
impl<P: Ord> Order<P> {
    /// Finds the spot for an item of this priority that arrives now.
    ///
    /// `since` is the arrival of the newest parked item, or 0.
    #[inline(always)]
    pub(super) fn find<T>(&self, items: &Items<P, T>, priority: &P, since: u64) -> Spot {
        self.search(
            |level| level.priority.cmp(priority).is_lt(),
            |level| level.priority.cmp(priority).is_eq() && (since == 0 || items.slot(level.tail).arrival > since),
        )
    }

    /// Finds the spot for an item of this priority that arrived before some that are here.
    pub(super) fn find_older<T>(&self, items: &Items<P, T>, priority: &P, arrival: u64) -> Spot {
        let is_newer = |level: &Level<P>| items.slot(level.head).arrival > arrival;
        self.search(
            |level| {
                let order = level.priority.cmp(priority);
                order.is_lt() || order.is_eq() && is_newer(level)
            },
            |level| level.priority.cmp(priority).is_eq(),
        )
    }
}

impl<P> Order<P> {
    const LEVELS: usize = {
        let fit = LEAF_BYTES / size_of::<Level<P>>();
        if fit > FANOUT {
            FANOUT
        } else if fit < 2 {
            2
        } else {
            fit
        }
    };

    pub(super) const fn new() -> Self {
        Self { len: 0, nodes: Vec::new(), vacant: NIL, root: 0, last: 0 }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most urgent item, and its priority.
    #[inline(always)]
    pub(super) fn first(&self) -> Option<(&P, u32)> {
        let level = self.nodes.get(self.last as usize)?.levels.last()?;
        Some((&level.priority, level.head))
    }

    /// The least urgent item, and an equal of its priority.
    pub(super) fn last(&self) -> Option<(&P, u32)> {
        let first = self.nodes.first()?;
        let level = first.levels.first().or_else(|| self.nodes.get(first.next as usize)?.levels.first())?;
        Some((&level.priority, level.tail))
    }

    /// The items, most urgent first, each with its priority and the head of its level.
    pub(super) fn iter<'a, T>(&'a self, items: &'a Items<P, T>) -> impl Iterator<Item = (u32, &'a P, u32)> {
        let mut leaf = if self.nodes.is_empty() { NIL } else { self.last };
        let leaves = std::iter::from_fn(move || {
            let node = self.nodes.get(leaf as usize)?;
            leaf = node.prev;
            Some(node)
        });
        leaves.flat_map(|node| node.levels.iter().rev()).flat_map(move |level| {
            let mut next = level.head;
            std::iter::from_fn(move || {
                let index = (next != NIL).then_some(next)?;
                let slot = items.slot(index);
                next = slot.next;
                let priority =
                    if let Place::Behind { priority, .. } = &slot.place { priority } else { &level.priority };
                Some((index, priority, level.head))
            })
        })
    }

    /// The priority of an item.
    pub(super) fn priority<'a, T>(&'a self, items: &'a Items<P, T>, index: u32) -> &'a P {
        match &items.slot(index).place {
            Place::Behind { priority, .. } => priority,
            Place::Head { leaf } => {
                let levels = &self.nodes[*leaf as usize].levels;
                &levels[at_head(levels, index)].priority
            }
            Place::Loose => unreachable!("the item is in this order"),
        }
    }

    /// The first level that is not `below`, if it `fits`; else the spot for a new one before it.
    #[inline(always)]
    fn search(&self, below: impl Fn(&Level<P>) -> bool, fits: impl Fn(&Level<P>) -> bool) -> Spot {
        let mut leaf = self.root;
        let Some(mut node) = self.nodes.get(leaf as usize) else { return Spot { leaf: 0, index: 0, exists: false } };
        while let [_, branches @ ..] = &node.branches[..] {
            let at = branches.partition_point(|branch| below(&self.nodes[branch.leaf as usize].levels[0]));
            leaf = node.branches[at].node;
            node = &self.nodes[leaf as usize];
        }
        // Where the queue is kept short, many items are more urgent than all others.
        let is_last = node.levels.last().is_some_and(&below);
        let index = if is_last { node.levels.len() } else { node.levels.partition_point(below) };
        if let Some(level) = node.levels.get(index) {
            return Spot { leaf, index, exists: fits(level) };
        }
        match self.nodes.get(node.next as usize) {
            Some(next) if fits(&next.levels[0]) => Spot { leaf: node.next, index: 0, exists: true },
            _ => Spot { leaf, index, exists: false },
        }
    }

    /// Returns what names this spot while the order changes.
    pub(super) fn anchor(&self, spot: Spot) -> Anchor {
        let Some(node) = self.nodes.get(spot.leaf as usize) else { return Anchor::Top };
        let level = node.levels.get(spot.index).or_else(|| self.nodes.get(node.next as usize)?.levels.first());
        match level {
            Some(level) if spot.exists => Anchor::In(level.head),
            Some(level) => Anchor::Below(level.head),
            None => Anchor::Top,
        }
    }

    /// Returns the spot of an anchor.
    pub(super) fn spot<T>(&self, items: &Items<P, T>, anchor: Anchor) -> Spot {
        let (Anchor::In(head) | Anchor::Below(head)) = anchor else {
            let index = self.nodes.get(self.last as usize).map_or(0, |node| node.levels.len());
            return Spot { leaf: self.last, index, exists: false };
        };
        let Place::Head { leaf } = items.slot(head).place else { unreachable!("an anchor is the head of a level") };
        Spot { leaf, index: at_head(&self.nodes[leaf as usize].levels, head), exists: anchor == Anchor::In(head) }
    }

    /// Puts a new item into the slot that [`Items::vacancy`] named.
    #[inline(always)]
    pub(super) fn insert<T>(
        &mut self,
        items: &mut Items<P, T>,
        index: u32,
        (id, arrival): (u64, u64),
        spot: Spot,
        (priority, value): (P, T),
    ) {
        let (place, prev) = self.link(items, index, spot, priority);
        items.fill(index, Slot { id, arrival, prev, next: NIL, place, push: None, value: Some(value) });
    }

    /// Puts an item of another order into this one.
    pub(super) fn adopt<T>(&mut self, items: &mut Items<P, T>, index: u32, spot: Spot, priority: P) {
        let (place, prev) = self.link(items, index, spot, priority);
        let slot = items.slot_mut(index);
        (slot.place, slot.prev, slot.next) = (place, prev, NIL);
    }

    /// Makes `index` the tail of the level at `spot`. Returns its place, and the item before it.
    #[inline(always)]
    fn link<T>(&mut self, items: &mut Items<P, T>, index: u32, spot: Spot, priority: P) -> (Place<P>, u32) {
        self.len += 1;
        let Spot { leaf, index: at, exists } = spot;
        if exists {
            let tail = replace(&mut self.nodes[leaf as usize].levels[at].tail, index);
            items.slot_mut(tail).next = index;
            return (Place::Behind { leaf, priority }, tail);
        }
        let level = Level { priority, head: index, tail: index };
        let leaf = match self.nodes.get_mut(leaf as usize) {
            Some(node) if node.levels.len() < Self::LEVELS => {
                if at == node.levels.len() {
                    node.levels.push(level);
                } else {
                    node.levels.insert(at, level);
                }
                leaf
            }
            _ => {
                let (leaf, at) = self.make_room(items, leaf, at);
                self.nodes[leaf as usize].levels.insert(at, level);
                leaf
            }
        };
        (Place::Head { leaf }, NIL)
    }

    /// Takes an item out of this order and out of its slot.
    #[inline(always)]
    pub(super) fn remove<T>(&mut self, items: &mut Items<P, T>, index: u32) -> (P, T) {
        let (place, prev, next, value) = items.vacate(index);
        let (priority, emptied) = self.unlink(items, index, place, prev, next);
        if let Some((leaf, _)) = emptied {
            self.tidy(items, leaf);
        }
        (priority, value)
    }

    /// Takes the most urgent item out of this order and out of its slot.
    #[inline(always)]
    pub(super) fn pop_first<T>(&mut self, items: &mut Items<P, T>) -> Option<(P, T)> {
        let leaf = self.last;
        let levels = &self.nodes.get(leaf as usize)?.levels;
        let at = levels.len().checked_sub(1)?;
        let (_, _, next, value) = items.vacate(levels[at].head);
        self.len -= 1;
        let (priority, emptied) = self.unlink_head(items, leaf, at, next);
        if emptied {
            self.tidy(items, leaf);
        }
        Some((priority, value))
    }

    /// Takes an item out of this order. It keeps its slot.
    pub(super) fn release<T>(&mut self, items: &mut Items<P, T>, index: u32) -> P {
        let slot = items.slot_mut(index);
        let (place, prev, next) = (replace(&mut slot.place, Place::Loose), slot.prev, slot.next);
        let (priority, emptied) = self.unlink(items, index, place, prev, next);
        if let Some((leaf, _)) = emptied {
            self.tidy(items, leaf);
        }
        priority
    }

    /// Gives an item another priority, for which `spot` was found. Returns the former one.
    pub(super) fn relocate<T>(&mut self, items: &mut Items<P, T>, index: u32, mut spot: Spot, priority: P) -> P {
        let slot = items.slot_mut(index);
        let (place, prev, next) = (replace(&mut slot.place, Place::Loose), slot.prev, slot.next);
        let (former, emptied) = self.unlink(items, index, place, prev, next);
        if let Some((_, at)) = emptied.filter(|&(leaf, _)| leaf == spot.leaf) {
            if at < spot.index {
                spot.index -= 1;
            } else if at == spot.index {
                // Only an inconsistent order finds the item equal to its new priority, and unequal before.
                spot.exists = false;
            }
        }
        self.adopt(items, index, spot, priority);
        if let Some((leaf, _)) = emptied {
            self.tidy(items, leaf);
        }
        former
    }

    /// Unlinks an item that was taken from its place. Returns its priority; and if it was alone, the place of its
    /// level.
    #[inline(always)]
    fn unlink<T>(
        &mut self,
        items: &mut Items<P, T>,
        index: u32,
        place: Place<P>,
        prev: u32,
        next: u32,
    ) -> (P, Option<(u32, usize)>) {
        self.len -= 1;
        match place {
            Place::Head { leaf } => {
                let at = at_head(&self.nodes[leaf as usize].levels, index);
                let (priority, emptied) = self.unlink_head(items, leaf, at, next);
                (priority, emptied.then_some((leaf, at)))
            }
            Place::Behind { leaf, priority } => {
                self.unlink_behind(items, leaf, index, prev, next);
                (priority, None)
            }
            Place::Loose => unreachable!("the item is in this order"),
        }
    }

    /// Unlinks the head of a level. Returns its priority, and whether the level is gone with it.
    #[inline(always)]
    fn unlink_head<T>(&mut self, items: &mut Items<P, T>, leaf: u32, at: usize, next: u32) -> (P, bool) {
        let levels = &mut self.nodes[leaf as usize].levels;
        if next == NIL {
            let last = if at == levels.len() - 1 { levels.pop() } else { None };
            return (last.unwrap_or_else(|| levels.remove(at)).priority, true);
        }
        let successor = items.slot_mut(next);
        let Place::Behind { priority, .. } = replace(&mut successor.place, Place::Head { leaf }) else {
            unreachable!("there is one head in a level")
        };
        let level = &mut levels[at];
        level.head = next;
        (replace(&mut level.priority, priority), false)
    }

    #[inline(always)]
    fn unlink_behind<T>(&mut self, items: &mut Items<P, T>, leaf: u32, index: u32, prev: u32, next: u32) {
        let before = items.slot_mut(prev);
        before.next = next;
        if next != NIL {
            items.slot_mut(next).prev = prev;
            return;
        }
        if let Place::Behind { leaf: of_tail, .. } = &mut before.place {
            *of_tail = leaf;
        }
        let mut levels = self.nodes[leaf as usize].levels.iter_mut();
        levels.find(|level| level.tail == index).expect("a tail knows the leaf of its level").tail = prev;
    }

    /// Finds room for a level that is to stand at `index` of a full leaf, by splitting it.
    #[inline(never)]
    fn make_room<T>(&mut self, items: &mut Items<P, T>, leaf: u32, index: usize) -> (u32, usize) {
        if self.nodes.is_empty() {
            return (self.new_node(), 0);
        }
        let upper = self.new_node();
        let full = &mut self.nodes[leaf as usize];
        // Levels that come in ascending or descending order leave full leaves behind them.
        let middle = if index == 0 || index == full.levels.len() { index } else { full.levels.len() / 2 };
        let mut levels = Vec::with_capacity(Self::LEVELS);
        levels.extend(full.levels.drain(middle..));
        let next = replace(&mut full.next, upper);
        for level in &levels {
            level.settle(items, upper);
        }
        let node = &mut self.nodes[upper as usize];
        (node.levels, node.prev, node.next) = (levels, leaf, next);
        match self.nodes.get_mut(next as usize) {
            Some(next) => next.prev = upper,
            None => self.last = upper,
        }
        self.add_branch(leaf, upper, upper);
        if index > 0 && index >= middle { (upper, index - middle) } else { (leaf, index) }
    }

    /// Merges a leaf that has lost a level with a neighbour, if both together are sparse.
    #[inline(always)]
    fn tidy<T>(&mut self, items: &mut Items<P, T>, leaf: u32) {
        if self.nodes.len() > 1 && self.nodes[leaf as usize].levels.len() <= Self::LEVELS / 4 {
            self.merge(items, leaf);
        }
    }

    #[inline(never)]
    fn merge<T>(&mut self, items: &mut Items<P, T>, leaf: u32) {
        let Node { prev, next, ref levels, .. } = self.nodes[leaf as usize];
        let len = levels.len();
        let is_sparse_with = |other: u32| {
            self.nodes.get(other as usize).is_some_and(|other| len + other.levels.len() <= Self::LEVELS / 2)
        };
        let (lower, upper) = if prev != NIL && (len == 0 || is_sparse_with(prev)) {
            (prev, leaf)
        } else if is_sparse_with(next) {
            (leaf, next)
        } else {
            return;
        };
        let levels = take(&mut self.nodes[upper as usize].levels);
        for level in &levels {
            level.settle(items, lower);
        }
        let next = self.nodes[upper as usize].next;
        let node = &mut self.nodes[lower as usize];
        node.levels.extend(levels);
        node.next = next;
        match self.nodes.get_mut(next as usize) {
            Some(next) => next.prev = lower,
            None => self.last = lower,
        }
        self.remove_branch(upper);
        self.lower_root();
    }

    fn new_node(&mut self) -> u32 {
        let node = Node { levels: Vec::new(), branches: Vec::new(), parent: NIL, prev: NIL, next: NIL };
        match self.nodes.get_mut(self.vacant as usize) {
            Some(vacant) => {
                let next = replace(vacant, node).next;
                replace(&mut self.vacant, next)
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        }
    }

    /// Adds a branch for `new`, which begins with `leaf`, behind that of `before`.
    fn add_branch(&mut self, before: u32, new: u32, leaf: u32) {
        let mut parent = self.nodes[before as usize].parent;
        if parent == NIL {
            parent = self.new_node();
            self.nodes[parent as usize].branches.push(Branch { node: before, leaf: 0 });
            (self.nodes[before as usize].parent, self.root) = (parent, parent);
        }
        self.nodes[new as usize].parent = parent;
        let at = self.at_branch(parent, before) + 1;
        let branches = &mut self.nodes[parent as usize].branches;
        branches.insert(at, Branch { node: new, leaf });
        if branches.len() > FANOUT {
            let branches = branches.split_off(FANOUT / 2);
            let upper = self.new_node();
            for branch in &branches {
                self.nodes[branch.node as usize].parent = upper;
            }
            let leaf = branches[0].leaf;
            self.nodes[upper as usize].branches = branches;
            self.add_branch(parent, upper, leaf);
        }
    }

    /// Removes a node, and those above it that are empty then. It is not the first of its tier.
    fn remove_branch(&mut self, node: u32) {
        let parent = self.nodes[node as usize].parent;
        let at = self.at_branch(parent, node);
        self.nodes[parent as usize].branches.remove(at);
        self.vacate(node);
        match self.nodes[parent as usize].branches.first() {
            None => self.remove_branch(parent),
            Some(&Branch { leaf, .. }) if at == 0 => self.begin_with(parent, leaf),
            Some(_) => {}
        }
    }

    /// Tells the branches above that `node` begins with another leaf. `node` is not the first of its tier, so some
    /// branch on the way up has another before it.
    fn begin_with(&mut self, mut node: u32, leaf: u32) {
        let mut at = 0;
        while at == 0 {
            let parent = self.nodes[node as usize].parent;
            at = self.at_branch(parent, node);
            self.nodes[parent as usize].branches[at].leaf = leaf;
            node = parent;
        }
    }

    /// A root with one branch is none. Once there is but one leaf, the memory of the others is given back.
    fn lower_root(&mut self) {
        while let [only] = self.nodes[self.root as usize].branches[..] {
            self.vacate(self.root);
            self.root = only.node;
            self.nodes[self.root as usize].parent = NIL;
        }
        if self.root == 0 {
            self.nodes.truncate(1);
            self.nodes.shrink_to(4);
            self.vacant = NIL;
        }
    }

    fn vacate(&mut self, node: u32) {
        let vacated = &mut self.nodes[node as usize];
        vacated.branches = Vec::new();
        vacated.next = replace(&mut self.vacant, node);
    }

    fn at_branch(&self, parent: u32, node: u32) -> usize {
        let mut branches = self.nodes[parent as usize].branches.iter();
        branches.rposition(|branch| branch.node == node).expect("a node has a branch in its parent")
    }
}

impl<P> Level<P> {
    /// Tells its ends that this level is in another leaf.
    fn settle<T>(&self, items: &mut Items<P, T>, leaf: u32) {
        for end in [self.head, self.tail] {
            if let Place::Head { leaf: its } | Place::Behind { leaf: its, .. } = &mut items.slot_mut(end).place {
                *its = leaf;
            }
        }
    }
}

/// The index of the level with this head. Most heads that leave are the most urgent.
#[inline(always)]
fn at_head<P>(levels: &[Level<P>], head: u32) -> usize {
    match levels {
        [.., last] if last.head == head => levels.len() - 1,
        _ => levels.iter().position(|level| level.head == head).expect("a head knows the leaf of its level"),
    }
}

impl<P: Ord> Order<P> {
    /// Checks every invariant of the order.
    pub(super) fn validate<T>(&self, items: &Items<P, T>) {
        let mut leaves = Vec::new();
        if let Some(root) = self.nodes.get(self.root as usize) {
            assert!(root.parent == NIL && root.branches.len() != 1, "the root has no parent and is needed");
            let reached = self.validate_node(self.root, &mut leaves);
            assert_eq!((leaves[0], leaves.last()), (0, Some(&self.last)), "the outer leaves are at hand");
            assert_eq!(reached + self.validate_vacant(), self.nodes.len(), "a node is in the tree or vacant");
            assert!(self.root > 0 || self.nodes.capacity() <= 4, "a single leaf keeps no memory of others");
        }
        let (mut len, mut prev, mut above) = (0, NIL, None::<&Level<P>>);
        for (at, &leaf) in leaves.iter().enumerate() {
            let node = &self.nodes[leaf as usize];
            assert!(node.levels.len() <= Self::LEVELS && (at == 0 || !node.levels.is_empty()), "a leaf has its size");
            assert_eq!((node.prev, node.next), (prev, leaves.get(at + 1).copied().unwrap_or(NIL)), "leaves are linked");
            prev = leaf;
            for level in &node.levels {
                let is_less_urgent =
                    above.replace(level).is_none_or(|before| match before.priority.cmp(&level.priority) {
                        std::cmp::Ordering::Less => true,
                        std::cmp::Ordering::Equal => items.slot(before.head).arrival > items.slot(level.tail).arrival,
                        std::cmp::Ordering::Greater => false,
                    });
                assert!(is_less_urgent, "levels are in order");
                len += Self::validate_level(items, level, leaf);
            }
        }
        assert_eq!(len, self.len, "the items are counted");
    }

    /// Returns the number of vacant nodes.
    fn validate_vacant(&self) -> usize {
        let (mut len, mut at) = (0, self.vacant);
        while let Some(node) = self.nodes.get(at as usize) {
            assert_eq!((node.levels.capacity(), node.branches.capacity()), (0, 0), "a vacant node keeps no memory");
            (len, at) = (len + 1, node.next);
        }
        len
    }

    /// Collects the leaves from a node down, and returns the number of nodes.
    fn validate_node(&self, at: u32, leaves: &mut Vec<u32>) -> usize {
        let node = &self.nodes[at as usize];
        if node.branches.is_empty() {
            leaves.push(at);
            return 1;
        }
        let mut nodes = 1;
        assert!(node.levels.is_empty() && node.branches.len() <= FANOUT, "a node is a leaf or has branches");
        for (index, branch) in node.branches.iter().enumerate() {
            let first = leaves.len();
            nodes += self.validate_node(branch.node, leaves);
            assert_eq!(self.nodes[branch.node as usize].parent, at, "a node knows its parent");
            assert!(index == 0 || branch.leaf == leaves[first], "a branch knows its first leaf");
        }
        nodes
    }

    /// Returns the number of items in a level.
    fn validate_level<T>(items: &Items<P, T>, level: &Level<P>, leaf: u32) -> usize {
        let (mut len, mut at, mut before) = (0, level.head, None::<u32>);
        while at != NIL {
            let slot = items.slot(at);
            assert!(slot.value.is_some(), "an item is in its slot");
            match &slot.place {
                Place::Head { leaf: its } => assert!(before.is_none() && *its == leaf, "a head knows its leaf"),
                Place::Behind { leaf: its, priority } => {
                    assert!(before == Some(slot.prev), "an item is linked with the one before it");
                    assert!(at != level.tail || *its == leaf, "a tail knows its leaf");
                    assert!(priority.cmp(&level.priority).is_eq(), "a level has one priority");
                }
                Place::Loose => panic!("an item in a level knows that"),
            }
            assert!(before.is_none_or(|before| items.slot(before).arrival < slot.arrival), "the older one is first");
            (len, before, at) = (len + 1, Some(at), slot.next);
        }
        assert_eq!(before, Some(level.tail), "a level ends with its tail");
        len
    }
}

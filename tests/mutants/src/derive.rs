//! Derives the mutants of a file from its syntax tree.
//!
//! | in the source | the mutant |
//! |---|---|
//! | `Ordering::X` above `Relaxed` | the next weaker ordering; both halves of `AcqRel` |
//! | a statement that is a call, an `.await` or an assignment, or an arm or tail of type `()` that is one | is not executed |
//! | the condition of an `if` without `else` | is false: the guard is gone |
//! | the condition of another `if`, a `while` or a match guard | is negated |
//! | an operand of `&&` or `\|\|`, the condition of an `assert!` | no longer decides: it is true, or false |
//! | another `bool` that shows in the syntax: `==`, `!`, `matches!`, `is_empty()`, `any(..)` | is negated |
//! | `<`, `<=`, `>`, `>=` | includes or excludes the limit |
//! | an integer constant | is one more, or one less where it is made from a `MAX` |
//!
//! Skipped are `validate`, functions that write to a `Formatter`, `debug_assert!`, and everything that the library is
//! built without: `cfg(test)`, `cfg(loom)`, `cfg(fuzzing)`. The bodies of macros are read where they are items.

use std::fs;
use std::mem;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, BinOp, Block, Expr, ExprBinary, Item, Macro, Meta, Pat, ReturnType, Signature, Stmt, Token, Type, UnOp,
};

/// One change of the source that a test or a model should notice.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutant {
    /// Its path from the root of the workspace.
    pub file: String,
    pub line: usize,
    /// The function that it is in, such as `semaphore::core::State::give`.
    pub function: String,
    /// The change. Together with the function it identifies the mutant, on whichever line it is.
    pub text: String,
    /// The bytes that change.
    pub range: Range<usize>,
    pub change: Change,
    /// Evaluated by the compiler, so that nothing can be switched at run time.
    pub is_const: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Delete,
    Negate,
    /// An operand gets this value.
    Fix(bool),
    Replace(String),
}

/// The mutants of the library under `root`, file by file.
pub fn all(root: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    let mut modules = vec![Vec::new()];
    while let Some(module) = modules.pop() {
        let file = match &module[..] {
            [] => "src/lib.rs".to_owned(),
            names => [format!("src/{}.rs", names.join("/")), format!("src/{}/mod.rs", names.join("/"))]
                .into_iter()
                .find(|file| root.join(file).exists())
                .with_context(|| format!("the module {} has no file", names.join("::")))?,
        };
        let text = fs::read_to_string(root.join(&file)).with_context(|| format!("cannot read {file}"))?;
        let (found, children) = of_file(&file, module, &text).with_context(|| format!("cannot parse {file}"))?;
        mutants.extend(found);
        modules.extend(children);
    }
    mutants.sort_by(|a, b| (&a.file, a.range.start).cmp(&(&b.file, b.range.start)));
    Ok(mutants)
}

/// The mutants of one file, and the modules that it declares in other files.
pub fn of_file(file: &str, module: Vec<String>, text: &str) -> Result<(Vec<Mutant>, Vec<Vec<String>>)> {
    let mut walk = Walk {
        file,
        text,
        base: 0,
        path: module,
        calls: Vec::new(),
        unset: Vec::new(),
        is_const: false,
        mutants: Vec::new(),
        modules: Vec::new(),
    };
    walk.visit_file(&syn::parse_file(text)?);
    let Walk { mut mutants, modules, .. } = walk;
    mutants.sort_by_key(|mutant| mutant.range.start);
    for index in 0..mutants.len() {
        let (before, this) = mutants.split_at_mut(index);
        let this = &mut this[0];
        let same = |other: &&mut Mutant| other.function == this.function && is_repeat(&other.text, &this.text);
        let nth = before.iter_mut().filter(same).count() + 1;
        if nth > 1 {
            this.text += &format!(" (#{nth})");
        }
    }
    Ok((mutants, modules))
}

fn is_repeat(numbered: &str, text: &str) -> bool {
    numbered.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with(" (#"))
}

struct Walk<'t> {
    file: &'t str,
    text: &'t str,
    /// Where the text that was parsed begins in the file.
    base: usize,
    /// The modules, types and functions around.
    path: Vec<String>,
    /// The calls around, by name and range.
    calls: Vec<(String, Range<usize>)>,
    /// Variables that are declared without a value: the compiler asks for the assignment.
    unset: Vec<String>,
    is_const: bool,
    mutants: Vec<Mutant>,
    /// Modules declared here that are in other files.
    modules: Vec<Vec<String>>,
}

impl Walk<'_> {
    fn range(&self, of: impl Spanned) -> Range<usize> {
        let range = of.span().byte_range();
        self.base + range.start..self.base + range.end
    }

    fn slice(&self, of: impl Spanned) -> &str {
        &self.text[self.range(of)]
    }

    fn push(&mut self, of: impl Spanned, change: Change) {
        let range = self.range(of);
        let old = short(&self.text[range.clone()]);
        let text = match &change {
            Change::Delete => format!("delete `{old}`"),
            Change::Negate => format!("negate `{old}`"),
            Change::Fix(value) => format!("`{old}` -> `{value}`"),
            Change::Replace(new) => match self.calls.last() {
                Some((_, call)) if old.starts_with("Ordering::") => {
                    format!("`{old}` -> `{new}` in `{}`", short(&self.text[call.clone()]))
                }
                _ => format!("`{old}` -> `{}`", short(new)),
            },
        };
        let line = self.text[..range.start].matches('\n').count() + 1;
        let (file, function, is_const) = (self.file.to_owned(), self.path.join("::"), self.is_const);
        self.mutants.push(Mutant { file, line, function, text, range, change, is_const });
    }

    /// Does `inside` with one more name in the path.
    fn within(&mut self, name: String, inside: impl FnOnce(&mut Self)) {
        self.path.push(name);
        inside(self);
        self.path.pop();
    }

    fn function(&mut self, attributes: &[Attribute], signature: &Signature, body: &Block) {
        let name = signature.ident.to_string();
        if is_off(attributes) || name.starts_with("validate") || self.slice(signature).contains("Formatter") {
            return;
        }
        let was_const = self.is_const;
        self.is_const |= signature.constness.is_some();
        self.unset.clear();
        self.within(name, |walk| {
            if matches!(signature.output, ReturnType::Default) {
                walk.tail(body);
            }
            walk.visit_block(body);
        });
        self.is_const = was_const;
    }

    fn constant(&mut self, attributes: &[Attribute], name: String, ty: &Type, value: &Expr) {
        let ty = self.slice(ty);
        let integers = ["usize", "u8", "u16", "u32", "u64", "u128", "isize", "i8", "i16", "i32", "i64", "i128"];
        if is_off(attributes) || !integers.contains(&ty) {
            return;
        }
        let old = self.slice(value);
        let new = format!("({old}) {} 1", if old.contains("MAX") { '-' } else { '+' });
        let was_const = mem::replace(&mut self.is_const, true);
        self.within(name, |walk| walk.push(value, Change::Replace(new)));
        self.is_const = was_const;
    }

    /// The last expression of a block of type `()`.
    fn tail(&mut self, block: &Block) {
        if let Some(Stmt::Expr(expression, None)) = block.stmts.last() {
            self.unit(expression);
        }
    }

    /// An expression of type `()`: a call in it, or at the end of its branches, can be deleted.
    fn unit(&mut self, expression: &Expr) {
        match expression {
            Expr::If(branch) => {
                self.tail(&branch.then_branch);
                if let Some((_, otherwise)) = &branch.else_branch {
                    self.unit(otherwise);
                }
            }
            Expr::Match(choice) => choice.arms.iter().for_each(|arm| self.unit(&arm.body)),
            Expr::Block(block) => self.tail(&block.block),
            Expr::Unsafe(block) => self.tail(&block.block),
            _ if has_effect(expression) => self.push(expression, Change::Delete),
            _ => {}
        }
    }

    fn condition(&mut self, condition: &Expr, change: Change) {
        let condition = bare(condition);
        if !matches!(condition, Expr::Let(_)) && logical(condition).is_none() && !is_known_to_the_compiler(condition) {
            self.push(condition, change);
        }
        self.inside(condition);
    }

    /// An operand of `&&` (`neutral` is true) or `||`.
    fn operand(&mut self, operand: &Expr, neutral: bool) {
        let operand = bare(operand);
        let is_part_of_chain = logical(operand) == Some(neutral) || matches!(operand, Expr::Let(_));
        if !is_part_of_chain && !is_known_to_the_compiler(operand) {
            self.push(operand, Change::Fix(neutral));
        }
        self.inside(operand);
    }

    fn comparison(&mut self, comparison: &ExprBinary) {
        let moved = match comparison.op {
            BinOp::Lt(_) => "<=",
            BinOp::Le(_) => "<",
            BinOp::Gt(_) => ">=",
            BinOp::Ge(_) => ">",
            _ => return,
        };
        let (all, operator) = (self.range(comparison), self.range(comparison.op));
        let new = [&self.text[all.start..operator.start], moved, &self.text[operator.end..all.end]].concat();
        self.push(comparison, Change::Replace(new));
    }

    /// Visits the parts of an expression, without negating its value.
    fn inside(&mut self, expression: &Expr) {
        match expression {
            Expr::If(branch) => {
                // Without an `else` the branch is a guard, and removing it is the smaller change.
                let is_guard = branch.else_branch.is_none();
                self.condition(&branch.cond, if is_guard { Change::Fix(false) } else { Change::Negate });
                self.visit_block(&branch.then_branch);
                if let Some((_, otherwise)) = &branch.else_branch {
                    self.visit_expr(otherwise);
                }
            }
            Expr::While(repeat) => {
                self.condition(&repeat.cond, Change::Negate);
                self.tail(&repeat.body);
                self.visit_block(&repeat.body);
            }
            Expr::ForLoop(repeat) => {
                self.visit_expr(&repeat.expr);
                self.tail(&repeat.body);
                self.visit_block(&repeat.body);
            }
            Expr::Loop(repeat) => {
                self.tail(&repeat.body);
                self.visit_block(&repeat.body);
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) => self.inside(bare(&unary.expr)),
            Expr::Binary(binary) => {
                match logical(expression) {
                    Some(neutral) => [&binary.left, &binary.right].map(|side| self.operand(side, neutral)),
                    None => [&binary.left, &binary.right].map(|side| self.visit_expr(side)),
                };
                self.comparison(binary);
            }
            Expr::Call(call) => self.call(self.slice(&call.func).to_owned(), expression),
            Expr::MethodCall(call) => self.call(call.method.to_string(), expression),
            Expr::Repeat(repeat) => self.visit_expr(&repeat.expr),
            Expr::Const(_) => {}
            _ => visit::visit_expr(self, expression),
        }
    }

    fn call(&mut self, name: String, call: &Expr) {
        self.calls.push((name, self.range(call)));
        visit::visit_expr(self, call);
        self.calls.pop();
    }

    /// Visits the items among the arguments of a macro, or in the bodies of a `macro_rules!`.
    fn items(&mut self, of: &Macro) {
        if !of.path.is_ident("macro_rules") {
            if let Ok(file) = syn::parse2::<syn::File>(of.tokens.clone()) {
                self.visit_file(&file);
            }
            return;
        }
        for body in transcribers(of.tokens.clone()) {
            let base = self.base + body.start;
            // An identifier of the same length: `$Name` becomes `_Name`. A body with repetitions does not parse, and is skipped.
            let masked = self.text[base..self.base + body.end].replace('$', "_");
            if let Ok(file) = syn::parse_file(&masked) {
                let before = mem::replace(&mut self.base, base);
                self.visit_file(&file);
                self.base = before;
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Fn(item) => self.function(&item.attrs, &item.sig, &item.block),
            Item::Const(item) => self.constant(&item.attrs, item.ident.to_string(), &item.ty, &item.expr),
            Item::Macro(item) if !is_off(&item.attrs) => self.items(&item.mac),
            Item::Mod(item) if !is_off(&item.attrs) => {
                self.within(item.ident.to_string(), |walk| match &item.content {
                    Some((_, items)) => items.iter().for_each(|item| walk.visit_item(item)),
                    None => walk.modules.push(walk.path.clone()),
                })
            }
            Item::Impl(item) if !is_off(&item.attrs) => {
                let name = match &*item.self_ty {
                    Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.span()),
                    _ => None,
                };
                let name = self.slice(name.unwrap_or_else(|| item.self_ty.span())).to_owned();
                self.within(name, |walk| item.items.iter().for_each(|item| walk.visit_impl_item(item)));
            }
            Item::Trait(item) if !is_off(&item.attrs) => self.within(item.ident.to_string(), |walk| {
                item.items.iter().for_each(|item| walk.visit_trait_item(item));
            }),
            _ => {}
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.attrs, item.ident.to_string(), &item.ty, &item.expr);
    }

    fn visit_impl_item_macro(&mut self, item: &'ast syn::ImplItemMacro) {
        // Its items are of an `impl`: they may have a `self`, and syn reads that in any function.
        self.items(&item.mac);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.attrs, &item.sig, body);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if self.slice(statement).starts_with("#[cfg(") {
            return;
        }
        match statement {
            Stmt::Local(local) if local.init.is_none() => self.unset.push(self.slice(&local.pat).to_owned()),
            Stmt::Expr(Expr::Assign(it), _) if self.unset.iter().any(|name| name == self.slice(&it.left)) => {}
            Stmt::Expr(expression, Some(_)) if has_effect(expression) => self.push(statement, Change::Delete),
            _ => {}
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        if let [before @ .., _] = &block.stmts[..] {
            for statement in before {
                // Without a semicolon, and not the last: a block of type `()`.
                if let Stmt::Expr(expression, None) = statement {
                    self.unit(expression);
                }
            }
        }
        visit::visit_block(self, block);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        if is_boolean(expression) {
            self.push(expression, Change::Negate);
        }
        self.inside(expression);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., ordering, strength] = &names[..]
            && ordering == "Ordering"
        {
            let operation = self.calls.last().map_or("", |(name, _)| name);
            for weaker in weaker(strength, operation) {
                self.push(path, Change::Replace(format!("Ordering::{weaker}")));
            }
        }
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        if let Pat::Guard(guarded) = pattern {
            self.condition(&guarded.guard, Change::Negate);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let name = called.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        let arguments = Punctuated::<Expr, Token![,]>::parse_terminated;
        match (&name[..], called.parse_body_with(arguments)) {
            ("assert", Ok(arguments)) => arguments.iter().take(1).for_each(|condition| self.operand(condition, true)),
            ("ready" | "pin", Ok(arguments)) => arguments.iter().for_each(|argument| self.visit_expr(argument)),
            _ => {}
        }
    }

    fn visit_type(&mut self, _: &'ast Type) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Without parentheses.
fn bare(mut expression: &Expr) -> &Expr {
    while let Expr::Paren(inner) = expression {
        expression = &inner.expr;
    }
    expression
}

/// Of `&&` true, of `||` false: the value of an operand that leaves the decision to the other.
fn logical(expression: &Expr) -> Option<bool> {
    match expression {
        Expr::Binary(ExprBinary { op: BinOp::And(_), .. }) => Some(true),
        Expr::Binary(ExprBinary { op: BinOp::Or(_), .. }) => Some(false),
        _ => None,
    }
}

fn is_known_to_the_compiler(expression: &Expr) -> bool {
    matches!(expression, Expr::Macro(called) if called.mac.path.is_ident("cfg"))
}

fn has_effect(expression: &Expr) -> bool {
    match expression {
        Expr::Call(_) | Expr::MethodCall(_) | Expr::Await(_) | Expr::Assign(_) => true,
        Expr::Try(fallible) => has_effect(&fallible.expr),
        Expr::Binary(binary) => {
            let is_comparison = matches!(binary.op, BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Le(_) | BinOp::Ge(_));
            !is_comparison && binary.op.span().source_text().is_some_and(|operator| operator.ends_with('='))
        }
        _ => false,
    }
}

fn is_boolean(expression: &Expr) -> bool {
    match expression {
        Expr::Binary(binary) => matches!(binary.op, BinOp::Eq(_) | BinOp::Ne(_)),
        Expr::Unary(unary) => matches!(unary.op, UnOp::Not(_)) && logical(bare(&unary.expr)).is_none(),
        Expr::Macro(called) => called.mac.path.is_ident("matches"),
        Expr::MethodCall(call) => {
            let name = call.method.to_string();
            name.starts_with("is_") || ["all", "any", "contains", "contains_key", "will_wake"].contains(&&name[..])
        }
        _ => false,
    }
}

fn weaker(ordering: &str, operation: &str) -> &'static [&'static str] {
    match (ordering, operation) {
        ("Acquire" | "Release", _) => &["Relaxed"],
        ("AcqRel", _) => &["Acquire", "Release"],
        ("SeqCst", "load") => &["Acquire"],
        ("SeqCst", "store") => &["Release"],
        ("SeqCst", _) => &["AcqRel"],
        _ => &[],
    }
}

/// Returns true if an item with these attributes is not in the library that users build.
fn is_off(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.filter_map(|attribute| attribute.parse_args::<Meta>().ok()).any(|condition| !is_on(&condition))
}

fn is_on(condition: &Meta) -> bool {
    let off = ["test", "loom", "fuzzing", "doc", "doctest", "debug_assertions"];
    let Meta::List(list) = condition else { return !off.iter().any(|name| condition.path().is_ident(name)) };
    let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return true };
    match () {
        () if list.path.is_ident("all") => parts.iter().all(is_on),
        () if list.path.is_ident("any") => parts.iter().any(is_on),
        () => !parts.iter().all(is_on),
    }
}

/// The insides of the groups after each `=>`.
fn transcribers(rules: TokenStream) -> Vec<Range<usize>> {
    let mut bodies = Vec::new();
    let mut is_next = false;
    for token in rules {
        match token {
            TokenTree::Group(group) if is_next => {
                let at = |span: Span| span.byte_range();
                bodies.push(at(group.span_open()).end..at(group.span_close()).start);
                is_next = false;
            }
            TokenTree::Punct(punct) => is_next = punct.as_char() == '>',
            _ => {}
        }
    }
    bodies
}

/// On one line, without comments, and not too long.
fn short(code: &str) -> String {
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    match code.char_indices().nth(100) {
        Some((end, _)) => format!("{} ..", &code[..end]),
        None => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function and text of each mutant.
    fn derived(text: &str) -> Vec<(String, String)> {
        let (mutants, _) = of_file("src/a.rs", vec!["a".into()], text).unwrap();
        mutants.into_iter().map(|mutant| (mutant.function, mutant.text)).collect()
    }

    /// The texts alone, of mutants in `fn f`.
    fn inside(body: &str) -> Vec<String> {
        derived(&format!("fn f() -> u8 {{ {body} }}")).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn orderings_are_weakened_by_one_step() {
        assert_eq!(
            inside("let b = a.load(Ordering::Acquire); let c = a.swap(b, Ordering::AcqRel); a.load(Ordering::Relaxed)"),
            [
                "`Ordering::Acquire` -> `Ordering::Relaxed` in `a.load(Ordering::Acquire)`",
                "`Ordering::AcqRel` -> `Ordering::Acquire` in `a.swap(b, Ordering::AcqRel)`",
                "`Ordering::AcqRel` -> `Ordering::Release` in `a.swap(b, Ordering::AcqRel)`",
            ]
        );
        assert_eq!(weaker("SeqCst", "store"), ["Release"]);
        assert_eq!(weaker("SeqCst", "fetch_add"), ["AcqRel"]);
    }

    #[test]
    fn statements_with_an_effect_are_deleted() {
        assert_eq!(inside("let a; if b { a = 1; } else { a = 2; } a"), ["negate `b`"]);
        assert_eq!(
            inside("let a = b(); c(a); d.e()?; f.await; self.g = 1; self.h += 1; return i(); j()"),
            [
                "delete `c(a);`",
                "delete `d.e()?;`",
                "delete `f.await;`",
                "delete `self.g = 1;`",
                "delete `self.h += 1;`",
            ]
        );
    }

    #[test]
    fn calls_of_type_unit_are_deleted_without_a_semicolon() {
        let found = derived("fn f() { match a { B => b(), C => { x; c() } D => return, } for _ in e { g() } h() }");
        let texts: Vec<&str> = found.iter().map(|(_, text)| &text[..]).collect();
        assert_eq!(texts, ["delete `b()`", "delete `c()`", "delete `g()`", "delete `h()`"]);
        assert_eq!(inside("if let Some(a) = b { c() } else { d() }"), [""; 0]);
    }

    #[test]
    fn conditions_are_negated_and_operands_dropped() {
        assert_eq!(inside("if a { 1 } else { 2 }"), ["negate `a`"]);
        assert_eq!(inside("if a { return 1; } 2"), ["`a` -> `false`"]);
        assert_eq!(inside("while !(a) {} 1"), ["negate `!(a)`"]);
        assert_eq!(inside("match a { b if c => 1, _ => 2 }"), ["negate `c`"]);
        assert_eq!(
            inside("if a && (b || c) && let Some(d) = e { 1 } else { 2 }"),
            ["`a` -> `true`", "`b || c` -> `true`", "`b` -> `false`", "`c` -> `false`"]
        );
        assert_eq!(inside("assert!(a == b, \"{c}\"); debug_assert!(d); 1"), ["`a == b` -> `true`"]);
        assert_eq!(inside("if cfg!(loom) { 1 } else { 2 }"), [""; 0]);
    }

    #[test]
    fn booleans_are_negated_once() {
        assert_eq!(inside("a.is_empty()"), ["negate `a.is_empty()`"]);
        assert_eq!(inside("!a.is_empty()"), ["negate `!a.is_empty()`"]);
        assert_eq!(inside("let a = matches!(b, C if d); e == f"), ["negate `matches!(b, C if d)`", "negate `e == f`"]);
    }

    #[test]
    fn limits_are_moved_by_one() {
        assert_eq!(inside("let a = b < c; d >= e"), ["`b < c` -> `b <= c`", "`d >= e` -> `d > e`"]);
        let constants = derived("const A: usize = usize::MAX >> 3; impl B { const C: u8 = 1; const D: &str = E; }");
        assert_eq!(
            constants,
            [
                ("a::A".into(), "`usize::MAX >> 3` -> `(usize::MAX >> 3) - 1`".into()),
                ("a::B::C".into(), "`1` -> `(1) + 1`".into()),
            ]
        );
    }

    #[test]
    fn each_knows_its_function() {
        let found = derived(
            "mod m { impl<T> Drop for G<'_, T> { fn drop(&mut self) { a() } } }
             trait T { fn t(&self) { fn inner() { b() } } }",
        );
        let functions: Vec<&str> = found.iter().map(|(function, _)| &function[..]).collect();
        assert_eq!(functions, ["a::m::G::drop", "a::T::t::inner"]);
    }

    #[test]
    fn what_users_do_not_get_is_skipped() {
        let skipped = "#[cfg(test)] mod t { fn f() { a() } }
            #[cfg(any(test, fuzzing, loom, debug_assertions))] impl A { pub fn validate(&self) { a() } }
            impl fmt::Debug for A { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { a(); b } }
            #[cfg(loom)] mod imp; #[cfg(all(unix, loom))] fn g() { a() }
            fn h() { #[cfg(loom)] a(); }";
        assert_eq!(of_file("src/a.rs", Vec::new(), skipped).unwrap(), (Vec::new(), Vec::new()));
        let kept = "#[cfg(not(loom))] mod imp; mod b { mod c; }";
        let (_, modules) = of_file("src/a.rs", vec!["a".into()], kept).unwrap();
        assert_eq!(modules, [["a", "imp"].map(str::to_owned).to_vec(), ["a", "b", "c"].map(str::to_owned).to_vec()]);
    }

    #[test]
    fn macros_with_items_are_read() {
        let found = derived(
            "const_fn! { /// Ä
                pub const fn new(a: usize) -> Self { assert!(a < 3); b } }
             macro_rules! m { ($P:ident) => { impl Drop for $P { fn drop(&mut self) { $P::c(); } } };
                ($($x:tt)*) => { $(fn f() { d() })* } }",
        );
        assert_eq!(
            found,
            [
                ("a::new".into(), "`a < 3` -> `true`".into()),
                ("a::new".into(), "`a < 3` -> `a <= 3`".into()),
                ("a::$P::drop".into(), "delete `$P::c();`".into()),
            ]
        );
        let (mutants, _) = of_file("src/a.rs", Vec::new(), "const fn f() { a() } fn g() { a() }").unwrap();
        assert_eq!(mutants.iter().map(|mutant| mutant.is_const).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn repeated_texts_are_numbered() {
        let texts = inside("a(); b(); a(); a(); 1");
        assert_eq!(texts, ["delete `a();`", "delete `b();`", "delete `a();` (#2)", "delete `a();` (#3)"]);
        assert_eq!(short(&format!("{} // c\n  b", "a".repeat(99))), format!("{} ..", "a".repeat(99) + " "));
    }
}

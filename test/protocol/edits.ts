/** Damage to good inputs: what a careless or hostile peer does to a JSON value or to a header. */
import fc from "fast-check";

type JsonEdit = Readonly<{ kind: (typeof JSON_EDITS)[number]; at: number; other: number; value: unknown }>;
type TextEdit = Readonly<{ kind: (typeof TEXT_EDITS)[number]; at: number; other: number; text: string }>;

const JSON_EDITS = ["delete", "replace", "rename", "copy", "swap", "nest", "spell", "add"] as const;
const TEXT_EDITS = ["change", "insert", "delete", "truncate", "repeat", "swap"] as const;

/** Values that are nearly right somewhere. */
const oddities: readonly unknown[] = [
	null,
	true,
	0,
	-1,
	1.5,
	2 ** 53,
	1e300,
	"",
	"0",
	"-1",
	"+1",
	"01",
	"1.0",
	"1e3",
	"0x",
	"0x0",
	"٣",
	"9".repeat(4_000),
	String(2n ** 128n - 1n),
	String(2n ** 128n),
	String(2n ** 256n),
	`0x${"00".repeat(20)}`,
	`0x${"AB".repeat(20)}`,
	`0x${"ab".repeat(32)}`,
	`0X${"ab".repeat(32)}`,
	`0x${"ab".repeat(64)}`,
	`0x${"AB".repeat(65)}`,
	"open",
	"topUp",
	"voucher",
	"close",
	"hash",
	"authorization",
	"permit2",
	"transaction",
	"charge",
	"session",
	"__proto__",
	"\ud800",
	[],
	[[]],
	{},
	{ length: 1 },
	{ action: "open", type: "hash" },
];

const names = ["__proto__", "constructor", "toString", "toJSON", "length", "then", "", "action", "type", "deposit"];

const jsonEdits: fc.Arbitrary<JsonEdit[]> = fc.array(
	fc.record(
		{
			kind: fc.constantFrom(...JSON_EDITS),
			at: fc.nat(),
			other: fc.nat(),
			value: fc.oneof(
				{ weight: 6, arbitrary: fc.constantFrom(...oddities) },
				{ weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
			),
		},
		{ noNullPrototype: true },
	),
	{ minLength: 1, maxLength: 3 },
);

const textEdits: fc.Arbitrary<TextEdit[]> = fc.array(
	fc.record(
		{
			kind: fc.constantFrom(...TEXT_EDITS),
			at: fc.nat(),
			other: fc.nat(),
			text: fc.constantFrom(...'"\\,= \t;{}[]:_-+/0aAZ\0\x7fé—\ud800', '""', "Payment ", ", ", "e30", "\\u005f", "=="),
		},
		{ noNullPrototype: true },
	),
	{ minLength: 1, maxLength: 3 },
);

/** Samples with members deleted, replaced, renamed, copied over others, swapped, nested, misspelt or added. */
export function editedJson(samples: fc.Arbitrary<object>): fc.Arbitrary<unknown> {
	return fc.tuple(samples, jsonEdits).map(([sample, edits]) => {
		const root: Slot[1] = [structuredClone(sample)];
		for (const edit of edits) editJson(root, edit);
		return root[0];
	});
}

/** Samples with characters changed, inserted or deleted, cut short, repeated in part or with parts swapped. */
export function editedText(samples: fc.Arbitrary<string>): fc.Arbitrary<string> {
	return fc.tuple(samples, textEdits).map(([sample, edits]) => edits.reduce(editText, sample));
}

type Slot = readonly [name: string, owner: Record<string, unknown> | unknown[]];

function editJson(root: unknown[], { kind, at, other, value }: JsonEdit): void {
	const slots = slotsOf(root);
	const [slot, another] = [slots[at % slots.length], slots[other % slots.length]];
	if (slot === undefined || another === undefined) return;
	const [name, owner] = slot;
	const held = read(slot);
	switch (kind) {
		case "delete":
			if (owner !== root) Reflect.deleteProperty(owner, name);
			break;
		case "replace":
			write(slot, structuredClone(value));
			break;
		case "rename":
			Reflect.deleteProperty(owner, name);
			write([owner === root ? name : (names[other % names.length] ?? ""), owner], held);
			break;
		case "copy":
			// A copy, so that no value holds itself.
			write(another, structuredClone(held));
			break;
		case "swap": {
			const copy = structuredClone(read(another));
			write(another, structuredClone(held));
			write(slot, copy);
			break;
		}
		case "nest":
			write(slot, other % 2 === 0 ? [held] : { [name]: held });
			break;
		case "spell":
			write(slot, typeof held === "string" ? misspelt(held, other) : JSON.stringify(held));
			break;
		case "add":
			if (typeof held === "object" && held !== null && !Array.isArray(held))
				write([names[other % names.length] ?? "", held as Record<string, unknown>], structuredClone(value));
			break;
	}
}

function misspelt(text: string, how: number): string {
	const at = how % (text.length + 1);
	const ways = [text.toUpperCase(), text.slice(0, at), `${text}0`, ` ${text}`, `${text}\n`, text.slice(2)];
	return ways[how % (ways.length + 1)] ?? `${text.slice(0, at)}g${text.slice(at + 1)}`;
}

/** Every place in a value that can be written to, the root's own first. */
function slotsOf(root: unknown[]): Slot[] {
	const slots: Slot[] = [];
	const left: Slot[1][] = [root];
	for (let owner = left.pop(); owner !== undefined; owner = left.pop()) {
		for (const name of Object.keys(owner)) {
			slots.push([name, owner]);
			const value = read([name, owner]);
			if (typeof value === "object" && value !== null) left.push(value as Slot[1]);
		}
	}
	return slots;
}

function read([name, owner]: Slot): unknown {
	return Object.getOwnPropertyDescriptor(owner, name)?.value;
}

/** Defined, not assigned: `__proto__` becomes a member like any other, as JSON.parse makes it. */
function write([name, owner]: Slot, value: unknown): void {
	if (Array.isArray(owner) && !/^\d+$/.test(name)) return;
	Object.defineProperty(owner, name, { value, configurable: true, enumerable: true, writable: true });
}

function editText(text: string, { kind, at, other, text: piece }: TextEdit): string {
	const from = at % (text.length + 1);
	const to = from + (other % (text.length - from + 1));
	switch (kind) {
		case "change":
			return text.slice(0, from) + piece + text.slice(from + 1);
		case "insert":
			return text.slice(0, from) + piece + text.slice(from);
		case "delete":
			return text.slice(0, from) + text.slice(from + 1);
		case "truncate":
			return text.slice(0, from);
		case "repeat":
			return text.slice(0, to) + text.slice(from);
		case "swap":
			return text.slice(to) + text.slice(from, to) + text.slice(0, from);
	}
}

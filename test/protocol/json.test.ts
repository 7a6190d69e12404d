import { expect, test } from "vitest";
import { canonicalJson, decodeJson, encodeBase64url, toWire } from "../../src/protocol/index.ts";
import { codeOf, thrownBy } from "./support.ts";

test("members are sorted by UTF-16 code units and numbers written as RFC 8785 has them", () => {
	expect(canonicalJson({ b: 1e21, a: 0.000001, B: -0, "\u20ac": 1, "\u00e9": 2 })).toBe(
		'{"B":0,"a":0.000001,"b":1e+21,"\u00e9":2,"\u20ac":1}',
	);
});

test("a value without a JSON form is refused", () => {
	const cycle: Record<string, unknown> = {};
	cycle.self = cycle;
	for (const object of [{ a: 1n }, { a: Number.NaN }, { a: "\ud800" }, cycle]) {
		expect(thrownBy(() => canonicalJson(object))).toMatchObject({ code: "json", reason: "not_canonical" });
	}
});

test.each([
	["an array", "[]", "not_an_object"],
	["null", "null", "not_an_object"],
	["a number", "1", "not_an_object"],
	["nothing", "", "syntax"],
	["a byte order mark", "\ufeff{}", "syntax"],
	["trailing text", "{}x", "syntax"],
	["a __proto__ member", '{"__proto__":{"id":"x"}}', "forbidden_key"],
	["an escaped __proto__ member", '{"\\u005f_proto__":{"id":"x"}}', "forbidden_key"],
	["a __proto__ member with an escaped letter", '{"__\\u0070roto__":{"id":"x"}}', "forbidden_key"],
	["a deep __proto__ member", '{"a":[{"b":{"__proto__":1}}]}', "forbidden_key"],
])("%s is refused", (_, json, reason) => {
	expect(thrownBy(() => decodeJson(encodeBase64url(json)))).toMatchObject({ code: "json", reason });
});

test("__proto__ as a value is not refused", () => {
	expect(decodeJson(encodeBase64url('{"a":"__proto__"}'))).toEqual({ a: "__proto__" });
});

test("nesting as deep as the text allows is read or refused with the typed error", () => {
	const nested = `{"a":${"[".repeat(20_000)}"__proto__"${"]".repeat(20_000)}}`;
	expect(["json", "nothing was thrown"]).toContain(codeOf(() => decodeJson(encodeBase64url(nested))));
});

test("the wire form has decimal strings for bigints and nothing for undefined", () => {
	expect(toWire({ amount: 2n ** 127n, gone: undefined, list: [1n, { deep: 2n }], kept: false, none: null })).toEqual({
		amount: "170141183460469231731687303715884105728",
		list: ["1", { deep: "2" }],
		kept: false,
		none: null,
	});
});

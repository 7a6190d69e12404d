import { describe, expect, test } from "vitest";
import {
	type Challenge,
	formatChallenge,
	MAX_CHALLENGE_HEADER_LENGTH,
	parseChallenge,
	parseChallenges,
} from "../../src/protocol/index.ts";
import { codeOf, sampleChallenge, thrownBy } from "./support.ts";

const good = formatChallenge(sampleChallenge);
const parsed = { challenge: sampleChallenge, request: {} };
const rest = 'realm="r", method="evm", intent="session"';

describe("a written challenge", () => {
	test("survives a round trip through a real Headers object, also among others", () => {
		const other = { ...sampleChallenge, id: "b", description: 'caf\u00e9 \u2615, "two", Payment id="c"' };
		const headers = new Headers();
		headers.append("WWW-Authenticate", 'Basic realm="x, Payment id=1"');
		headers.append("WWW-Authenticate", good);
		headers.append("WWW-Authenticate", formatChallenge(other));
		const read = parseChallenges(headers.get("WWW-Authenticate") ?? "");
		expect(read.map(({ challenge }) => challenge)).toEqual([sampleChallenge, other]);
	});

	test("has the draft's parameters in a fixed order", () => {
		const opaque = {
			...sampleChallenge,
			opaque: "e30",
			expires: "2030-01-01T00:00:00Z",
			digest: "d",
			description: "x",
		};
		expect(formatChallenge(opaque)).toBe(
			`${good}, description="x", digest="d", expires="2030-01-01T00:00:00Z", opaque="e30"`,
		);
	});

	test.each(["\r\nSet-Cookie: a=b", "a\nb", "a\0b", "a\tb", "a\x7fb", "a\ud800b"])(
		"never carries %j",
		(description) => {
			expect(thrownBy(() => formatChallenge({ ...sampleChallenge, description }))).toMatchObject({
				code: "challenge_format",
				reason: "character",
				parameter: "description",
			});
		},
	);

	test("never has an empty id", () => {
		expect(thrownBy(() => formatChallenge({ ...sampleChallenge, id: "" }))).toMatchObject({ reason: "empty_id" });
	});
});

describe("reading", () => {
	test("takes tokens, any case of names and scheme, and space where the grammar has it", () => {
		const header = 'PAYMENT\tID = a ,\tRealm="r",method=evm , intent= session,request=e30';
		expect(parseChallenge(header).challenge).toEqual({ ...sampleChallenge, id: "a", realm: "r" });
	});

	test("takes empty list elements", () => {
		expect(parseChallenge(`, ,${good.replaceAll(", ", ",, ,")},`)).toEqual(parsed);
	});

	test("ignores parameters it does not know, even broken ones", () => {
		for (const extension of ['x="1"', "x=1", "x=", 'x="1" 2', 'X="', "x=a b c", 'x=@"q"']) {
			expect(parseChallenge(`${good}, ${extension}`), extension).toEqual(parsed);
		}
	});

	test("keeps what follows a broken description", () => {
		const header = `Payment id="a", ${rest}, description="say "hi, there" now", request="e30"`;
		expect(parseChallenge(header).challenge).toMatchObject({ description: "say ", request: "e30" });
		const quotedComma = `Payment id="a", ${rest}, description="say "hi" or, id=b", request="e30"`;
		expect(parseChallenge(quotedComma).challenge).toMatchObject({ id: "a", description: "say ", request: "e30" });
	});

	test("leaves out a description that holds control characters or never ends", () => {
		expect(thrownBy(() => parseChallenge(`${good}, realm="x`))).toMatchObject({ reason: "duplicate_parameter" });
		for (const description of ['"a\x07b"', '"never ends', ""]) {
			expect(parseChallenge(`${good}, description=${description}`), description).toEqual(parsed);
		}
	});

	test("keeps Latin-1 text that is not UTF-8 as it came", () => {
		expect(parseChallenge(`${good}, description="caf\u00e9"`).challenge.description).toBe("caf\u00e9");
	});

	test.each([
		["no challenge", "", "no_challenge", undefined],
		["another scheme", 'Bearer realm="Payment"', "no_challenge", undefined],
		["a scheme that only begins so", good.replace("Payment", "Payments"), "no_challenge", undefined],
		["parameters without a scheme", good.slice("Payment ".length), "no_challenge", undefined],
		["two challenges", `${good}, ${good}`, "several_challenges", undefined],
		["no parameters", "Payment", "missing_parameter", "id"],
		["a token instead of parameters", "Payment abc=", "missing_parameter", "id"],
		["an empty id", `Payment id="", ${rest}, request="e30"`, "malformed_parameter", "id"],
		["an id without a value", `Payment ${rest}, request="e30", id=`, "malformed_parameter", "id"],
		["an id with control characters", `Payment id="a\rb", ${rest}, request="e30"`, "malformed_parameter", "id"],
		["an id followed by other text", `Payment id="a" b, ${rest}, request="e30"`, "malformed_parameter", "id"],
		["a missing comma", `Payment id="a" ${rest}, request="e30"`, "malformed_parameter", "id"],
		["a request never closed", `Payment id="a", ${rest}, request="e30`, "malformed_parameter", "request"],
		["a padded request", `Payment id="a", ${rest}, request="e30="`, "malformed_parameter", "request"],
		["a request that is a list", `Payment id="a", ${rest}, request="W10"`, "malformed_parameter", "request"],
		["an empty request", `Payment id="a", ${rest}, request=""`, "malformed_parameter", "request"],
		["a parameter twice, in another case", `${good}, ID="b"`, "duplicate_parameter", "id"],
		["an unknown parameter twice", `${good}, x=1, x=1`, "duplicate_parameter", undefined],
	])("refuses %s", (_, header, reason, parameter) => {
		expect(thrownBy(() => parseChallenge(header))).toMatchObject({ code: "challenge_parse", reason, parameter });
	});
});

describe("reading several", () => {
	const second: Challenge = { ...sampleChallenge, id: "second", intent: "charge" };

	test("finds them among other schemes in one value", () => {
		const header = `Negotiate YWJj==, ${good}, Basic realm="simple", ${formatChallenge(second)}, NTLM, Bearer error=a`;
		expect(parseChallenges(header)).toEqual([parsed, { ...parsed, challenge: second }]);
	});

	test("finds them in several values", () => {
		expect(parseChallenges([good, "Basic", formatChallenge(second)])).toEqual([
			parsed,
			{ ...parsed, challenge: second },
		]);
	});

	test("does not lose the good ones to a bad one", () => {
		const bad = [
			`Payment id="", ${rest}, request="e30"`,
			`Payment id="a", ${rest}, request="!"`,
			"Payment",
			"Payment a b c",
			"Payment id=a id=b",
		];
		for (const one of bad) expect(parseChallenges(`${one}, ${good}, ${one}`), one).toEqual([parsed]);
	});

	test("loses to an unclosed quote no more than its own value", () => {
		expect(parseChallenges([`Payment id="a, ${good}`, good])).toEqual([parsed]);
	});

	test("finds none where there are none", () => {
		expect(parseChallenges("")).toEqual([]);
		expect(parseChallenges([])).toEqual([]);
	});
});

describe("hostile headers", () => {
	// A parser that is not linear takes minutes over some of these, and the test times out.
	test.each([
		'"',
		"\\",
		'\\"',
		'"\\',
		",",
		"=",
		" ",
		"a",
		"a ",
		"a=",
		'a="',
		'a=",',
		"payment,",
		"payment ",
		'x="" ',
		"a\t",
		"-=",
	])("%j repeated to the limit is read", (unit) => {
		const fill = unit.repeat(Math.floor((MAX_CHALLENGE_HEADER_LENGTH - 200) / unit.length));
		expect(parseChallenges(fill)).toEqual([]);
		expect(parseChallenges([good, fill])).toEqual([parsed]);
		parseChallenges(`Payment x="${fill}`);
		parseChallenges(`${good}, ${fill}`);
	});

	test("longer than the limit are refused, counted over all values", () => {
		const half = "a".repeat(MAX_CHALLENGE_HEADER_LENGTH / 2);
		expect(codeOf(() => parseChallenges([half, half]))).toBe("nothing was thrown");
		for (const header of [[half, half, "a"], `${half}${half}a`]) {
			expect(thrownBy(() => parseChallenges(header))).toMatchObject({ code: "challenge_parse", reason: "too_long" });
		}
	});

	test("never show in the error", () => {
		const error = thrownBy(() => parseChallenge(`Payment id="a", ${rest}, request="c2VjcmV0"`));
		expect(JSON.stringify(error) + String(error)).not.toContain("c2VjcmV0");
	});
});

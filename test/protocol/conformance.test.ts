import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
	type Challenge,
	challengeId,
	decodeBase64urlText,
	decodeRequest,
	encodeBase64url,
	encodeJson,
	formatChallenge,
	formatCredential,
	type ParsedChallenge,
	parseChallenge,
	parseCredential,
} from "../../src/protocol/index.ts";
import { codeOf } from "./support.ts";

// The vectors show requests decoded; on our side they stay as they are on the wire.
const challengeObject = z.object({
	id: z.string(),
	realm: z.string(),
	method: z.string(),
	intent: z.string(),
	request: z.record(z.string(), z.unknown()),
	expires: z.string().exactOptional(),
	digest: z.string().exactOptional(),
	description: z.string().exactOptional(),
	opaque: z.string().exactOptional(),
});
const credentialObject = z.object({
	challenge: challengeObject,
	payload: z.record(z.string(), z.unknown()),
	source: z.string().exactOptional(),
});
const expectation = z.union([z.literal(true), z.object({ success: z.literal(false), error_type: z.string() })]);
const tests = z.strictObject({
	parse: expectation.exactOptional(),
	format: expectation.exactOptional(),
	roundtrip: z.literal(true).exactOptional(),
});
const about = { name: z.string(), tests };
const repeated = z.object({ prefix: z.string(), repeat: z.string(), count: z.number() });
const wire = z
	.union([z.string(), repeated.transform(({ prefix, repeat, count }) => prefix + repeat.repeat(count))])
	.default("");

/** One test for each thing a scenario asks of a codec. */
function runScenario<Value>(
	scenario: { tests: z.output<typeof tests> },
	value: Value | undefined,
	text: string,
	codec: { parse(text: string): Value; format(value: Value): string; error: string },
): void {
	const object = (): Value => {
		if (value === undefined) throw new TypeError("the scenario has no object");
		return value;
	};
	const { parse, format, roundtrip } = scenario.tests;
	if (parse === true) test("parses", () => expect(codec.parse(text)).toEqual(object()));
	else if (parse !== undefined)
		test("refuses to parse", () => expect(codeOf(() => codec.parse(text))).toBe(codec.error));
	if (format === true) test("formats", () => expect(codec.format(object())).toBe(text));
	else if (format !== undefined)
		test("refuses to format", () => expect(codeOf(() => codec.format(object()))).toBe("challenge_format"));
	if (roundtrip !== undefined) {
		test("survives a round trip", () => {
			expect(codec.format(codec.parse(text))).toBe(text);
			expect(codec.parse(codec.format(object()))).toEqual(object());
		});
	}
}

function scenarios<Schema extends z.ZodType>(file: string, schema: Schema): z.output<Schema>[] {
	const url = new URL(`../vectors/conformance/${file}.json`, import.meta.url);
	return z.object({ scenarios: z.array(schema) }).parse(JSON.parse(readFileSync(url, "utf8"))).scenarios;
}

function toChallenge(object: z.output<typeof challengeObject>): Challenge {
	return { ...object, request: encodeJson(object.request) };
}

describe("base64url vectors", () => {
	const schema = z.object({ ...about, decoded: z.string().exactOptional(), encoded: z.string() });
	describe.each(scenarios("base64url", schema))("$name", (scenario) => {
		const codec = { parse: decodeBase64urlText, format: encodeBase64url, error: "base64url" };
		runScenario(scenario, scenario.decoded, scenario.encoded, codec);
	});
});

describe("www-authenticate vectors", () => {
	const schema = z.object({ ...about, object: challengeObject.exactOptional(), wire });
	describe.each(scenarios("www-authenticate", schema))("$name", (scenario) => {
		const { object } = scenario;
		const value: ParsedChallenge | undefined = object && { challenge: toChallenge(object), request: object.request };
		runScenario(scenario, value, scenario.wire, {
			parse: parseChallenge,
			format: ({ challenge }) => formatChallenge(challenge),
			error: "challenge_parse",
		});
	});
});

describe("authorization vectors", () => {
	const schema = z.object({ ...about, object: credentialObject.exactOptional(), wire });
	describe.each(scenarios("authorization", schema))("$name", (scenario) => {
		runScenario(scenario, scenario.object, scenario.wire, {
			parse: (text) => {
				const { challenge, ...rest } = parseCredential(text);
				return { ...rest, challenge: { ...challenge, request: decodeRequest(challenge) } };
			},
			format: ({ challenge, ...rest }) => formatCredential({ ...rest, challenge: toChallenge(challenge) }),
			error: "malformed_credential",
		});
	});
});

describe("challenge-id vectors", () => {
	const schema = z.object({
		name: z.string(),
		input: challengeObject
			.omit({ id: true })
			.extend({ secretKey: z.string(), header: z.literal("Authorization").exactOptional() }),
		expected: z.string().exactOptional(),
		tests: z.object({ generate: expectation }).exactOptional(),
	});
	test.each(scenarios("challenge-id", schema))("$name", ({ input, expected, tests }) => {
		const { secretKey, ...rest } = input;
		const generate = () => challengeId(secretKey, { ...rest, request: encodeJson(rest.request) });
		if (tests === undefined) expect(generate()).toBe(expected);
		else expect(codeOf(generate)).toBe("weak_secret");
	});
});

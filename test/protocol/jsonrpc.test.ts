/** The Payment scheme in JSON-RPC messages, by the examples of draft-payment-transport-mcp-00 and against whatever may come. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	authorizationFromRpc,
	type Challenge,
	CREDENTIAL_META,
	canonicalCall,
	capabilitiesNotification,
	challengeFromRpc,
	challengeId,
	challengeToRpc,
	createChallenge,
	credentialToRpc,
	encodeJson,
	formatCredential,
	isOurChallenge,
	MalformedCredentialError,
	MalformedRpcPaymentError,
	metaOf,
	nonceOpaque,
	PROBLEM_NAMES,
	type ProblemName,
	parseCredential,
	parsePaymentCapability,
	parseRpcRefusal,
	paymentCapability,
	problem,
	RPC_PAYMENT_CODES,
	rangesOfCapability,
	receiptOfRpc,
	rpcCodeOf,
	rpcRefusal,
} from "../../src/protocol/index.ts";
import { credentials, jsonObjects, problems } from "./arbitraries.ts";
import { codeOf, pathsOf, SECRET, withMember } from "./support.ts";

/** The draft's example of a credential (section "Transmitting Payment Data"), with a payload that is not cut short. */
const example = {
	challenge: {
		id: "qB3wErTyU7iOpAsD9fGhJk",
		realm: "api.example.com",
		method: "tempo",
		intent: "charge",
		request: { amount: "1000", currency: "usd", recipient: "0x742d35Cc6634C0532925a3b844Bc9e7595f8fE00" },
		expires: "2025-01-15T12:05:00Z",
	},
	payload: { signature: "0x1b2c3d4e5f" },
};

/** The draft's example of a 402 (section "Signaling Payment Required"). */
const required = {
	code: -32042,
	message: "Payment Required",
	data: {
		httpStatus: 402,
		challenges: [{ ...example.challenge, description: "API call fee" }],
		problem: {
			type: "https://paymentauth.org/problems/payment-required",
			title: "Payment Required",
			status: 402,
			detail: "Payment required for access.",
		},
	},
};

/** Its example of a refused payment (section "Payment Verification Failure"). */
const failed = {
	code: -32043,
	message: "Payment Verification Failed",
	data: {
		httpStatus: 402,
		challenges: [{ ...example.challenge, id: "retry-challenge-abc" }],
		failure: { reason: "signature-invalid", detail: "Signature verification failed" },
	},
};

const ours = createChallenge(SECRET, {
	realm: "api.example.com",
	method: "evm",
	intent: "session",
	request: { currency: "0xcc", amount: "100", methodDetails: { chainId: 8453, b: [1, "é"], a: 0.5 } },
	expires: "2030-01-01T00:00:00Z",
	description: "A call",
	opaque: nonceOpaque(new Uint8Array(16), { order: "1" }),
});

describe("a challenge in JSON-RPC", () => {
	test("is a native object with the draft's members, its request never base64url", () => {
		expect(challengeToRpc(ours)).toEqual({
			id: ours.id,
			realm: "api.example.com",
			method: "evm",
			intent: "session",
			request: { currency: "0xcc", amount: "100", methodDetails: { chainId: 8453, b: [1, "é"], a: 0.5 } },
			expires: "2030-01-01T00:00:00Z",
			description: "A call",
			opaque: ours.opaque,
		});
	});

	test("has an id that verifies as over HTTP, in whatever order the members of its request come", () => {
		const native = challengeToRpc(ours);
		const { methodDetails, currency, amount } = native.request as Record<string, object>;
		const reordered = { ...native, request: { methodDetails, currency, amount } };
		const spaced = JSON.parse(JSON.stringify(reordered, undefined, 2));
		expect(challengeFromRpc(spaced)).toEqual(ours);
		expect(isOurChallenge([SECRET], challengeFromRpc(spaced))).toBe(true);
	});

	test.each(["realm", "method", "intent", "request", "expires", "opaque"] as const)(
		"is bound to its %s by its id",
		(member) => {
			const native = challengeToRpc(ours);
			const other = member === "request" ? { ...native.request, amount: "1" } : `${native[member]}x`;
			expect(isOurChallenge([SECRET], challengeFromRpc({ ...native, [member]: other }))).toBe(false);
		},
	);

	test("is hashed over the canonical form of its request (JCS)", () => {
		const request = { b: 1e21, a: "\u20ac", "\u00e9": [true, null] };
		const canonical = '{"a":"€","b":1e+21,"é":[true,null]}';
		const challenge = { realm: "r", method: "evm", intent: "charge", request: encodeJson(request) };
		expect(Buffer.from(challenge.request, "base64url").toString()).toBe(canonical);
		const id = challengeId(SECRET, challenge);
		expect(isOurChallenge([SECRET], challengeFromRpc({ ...challenge, id, request }))).toBe(true);
	});

	test("is read back as it was, any of them", () => {
		fc.assert(
			fc.property(credentials, jsonObjects, ({ challenge }, request) => {
				const canonical: Challenge = { ...challenge, request: encodeJson(request) };
				expect(challengeFromRpc(JSON.parse(JSON.stringify(challengeToRpc(canonical))))).toEqual(canonical);
			}),
			{ numRuns: 500 },
		);
	});
});

describe("a credential in JSON-RPC", () => {
	test("of the draft's example is the header's credential that says the same", () => {
		expect(parseCredential(authorizationFromRpc(example))).toEqual({
			...example,
			challenge: { ...example.challenge, request: encodeJson(example.challenge.request) },
		});
	});

	test("is read back as it was, any of them", () => {
		fc.assert(
			fc.property(credentials, jsonObjects, (credential, request) => {
				const whole = { ...credential, challenge: { ...credential.challenge, request: encodeJson(request) } };
				fc.pre(formatCredential(whole).length < 16_000);
				const native = JSON.parse(JSON.stringify(credentialToRpc(whole)));
				expect(parseCredential(authorizationFromRpc(native))).toEqual(JSON.parse(JSON.stringify(whole)));
			}),
			{ numRuns: 500 },
		);
	});

	test("goes back with its challenge unchanged, also what this release does not know of it", () => {
		const came = { ...challengeToRpc(ours), novelty: { deep: [1] } };
		const credential = { challenge: challengeFromRpc(came), payload: {} };
		expect(credentialToRpc(credential, came).challenge).toBe(came);
	});

	test("is the same text in whatever order its members come", () => {
		const payload = { b: 1, a: { d: 2, c: 3 } };
		const other = { a: { c: 3, d: 2 }, b: 1 };
		expect(authorizationFromRpc({ ...example, payload })).toBe(authorizationFromRpc({ ...example, payload: other }));
	});

	test.each(
		pathsOf(example)
			.map((path) => path.join("."))
			.filter((path) => !path.startsWith("challenge.request.") && !path.startsWith("payload.")),
	)("without a %s of its type is malformed", (path) => {
		const wrong = withMember(example, path.split("."), 7);
		expect(codeOf(() => authorizationFromRpc(wrong))).toBe("malformed_rpc_payment");
	});

	test.each([
		"challenge",
		"payload",
		"challenge.id",
		"challenge.realm",
		"challenge.method",
		"challenge.intent",
		"challenge.request",
	])("needs its %s, and the error says so", (path) => {
		const without = withMember(example, path.split("."), undefined);
		expect(() => authorizationFromRpc(without)).toThrow(path);
	});

	test.each([
		["longer than is read", { ...example, payload: { text: "x".repeat(20_000) } }],
		["with a request in base64url", { ...example, challenge: { ...example.challenge, request: "e30" } }],
		["with an empty id", { ...example, challenge: { ...example.challenge, id: "" } }],
		["with a payload that has no canonical form", { ...example, payload: { text: "\ud800" } }],
		["that is a list", [example]],
		["that is none", null],
	])("%s is malformed, and the error carries none of it", (_what, json) => {
		expect(() => authorizationFromRpc(json)).toThrow(MalformedRpcPaymentError);
	});

	test("of any shape is read or refused, and by nothing but its own error", () => {
		fc.assert(
			fc.property(fc.jsonValue(), fc.constantFrom(...pathsOf(example)), (value, path) => {
				try {
					parseCredential(authorizationFromRpc(withMember(example, path, value)));
				} catch (error) {
					const known = error instanceof MalformedRpcPaymentError || error instanceof MalformedCredentialError;
					expect(known, String(error)).toBe(true);
				}
			}),
			{ numRuns: 1_000 },
		);
	});
});

describe("what stands in _meta", () => {
	const credential = { [CREDENTIAL_META]: 1 };
	test.each([
		["at the root, beside params that are a list", { method: "m", params: ["latest"], _meta: credential }, [1]],
		["in params, as MCP has it", { method: "m", params: { name: "x", _meta: credential } }, [1]],
		["in both", { method: "m", params: { _meta: { [CREDENTIAL_META]: 2 } }, _meta: credential }, [1, 2]],
		["in neither", { method: "m", params: { _meta: {} } }, []],
		["in what is no object", { method: "m", _meta: "no", params: { _meta: [1] } }, []],
	])("is found %s", (_where, message, found) => {
		expect(metaOf(message, CREDENTIAL_META)).toEqual(found);
	});

	test("of a response is its receipt, at the root or in the result", () => {
		const receipt = { status: "success", method: "tempo" };
		const _meta = { "org.paymentauth/receipt": receipt };
		expect(receiptOfRpc({ jsonrpc: "2.0", id: 2, result: "0x1", _meta })).toEqual(receipt);
		expect(receiptOfRpc({ jsonrpc: "2.0", id: 2, result: { content: [], _meta } })).toEqual(receipt);
		expect(receiptOfRpc({ jsonrpc: "2.0", id: 2, result: { content: [] } })).toBeUndefined();
	});
});

describe("a call as challenges are bound to it", () => {
	test("is its method and params in canonical form, without _meta, and whatever its id", () => {
		const message = {
			jsonrpc: "2.0",
			id: 7,
			method: "tools/call",
			params: { name: "x", arguments: { b: 1, a: 2 }, _meta: { progressToken: 7 } },
		};
		expect(canonicalCall(message)).toBe('{"method":"tools/call","params":{"arguments":{"a":2,"b":1},"name":"x"}}');
		expect(canonicalCall({ method: "m", params: ["latest", false] })).toBe('{"method":"m","params":["latest",false]}');
		expect(canonicalCall({ method: "m" })).toBe('{"method":"m"}');
	});
});

describe("a refusal as an error", () => {
	test("that asks for a payment is the draft's -32042, with httpStatus 402, challenges and the problem", () => {
		const why = problem("payment-required", "Pay.");
		expect(rpcRefusal(why, { challenges: [ours] })).toEqual({
			code: -32042,
			message: "Payment Required",
			data: { httpStatus: 402, challenges: [challengeToRpc(ours)], problem: why },
		});
	});

	test("of a payment is -32043, with fresh challenges and the failure", () => {
		const why = problem("session/invalid-signature", "Not signed by the channel's signer.");
		expect(rpcRefusal(why, { challenges: [ours] })).toMatchObject({
			code: -32043,
			message: "Payment Verification Failed",
			data: {
				httpStatus: 402,
				challenges: [{ id: ours.id }],
				failure: { reason: "session/invalid-signature", detail: "Not signed by the channel's signer." },
			},
		});
	});

	test("of what can't be read is -32602, without a challenge", () => {
		const { code, data } = rpcRefusal(problem("malformed-credential", "challenge.id is missing"), {
			challenges: [ours],
		});
		expect(code).toBe(-32602);
		expect(data).not.toHaveProperty("challenges");
		expect(data).toMatchObject({ detail: "challenge.id is missing" });
	});

	test("for want of a chain or store is -32603, and says when to come back", () => {
		const error = rpcRefusal(problem("service-unavailable", "Later."), { retryAfterSeconds: 5 });
		expect(error).toMatchObject({ code: -32603, data: { httpStatus: 503, retryAfterSeconds: 5 } });
		expect(parseRpcRefusal(error)).toMatchObject({ httpStatus: 503, retryAfterSeconds: 5 });
	});

	const codes: Partial<Record<ProblemName, number>> = {
		"payment-required": -32042,
		"malformed-credential": -32602,
		"bad-request": -32602,
		"unprocessable-content": -32602,
		"content-too-large": -32602,
		forbidden: -32603,
		conflict: -32603,
		"too-many-requests": -32603,
		"service-unavailable": -32603,
	};
	test.each(PROBLEM_NAMES)("has one of the draft's four codes: %s", (name) => {
		expect(rpcCodeOf(problem(name, ""))).toBe(codes[name] ?? RPC_PAYMENT_CODES.verificationFailed);
	});

	test("is read back with all that it says", () => {
		fc.assert(
			fc.property(problems, (why) => {
				const error = JSON.parse(JSON.stringify(rpcRefusal(why, { challenges: [ours], retryAfterSeconds: 2 })));
				const read = parseRpcRefusal(error);
				expect(read).toMatchObject({ code: error.code, retryAfterSeconds: 2 });
				expect(read?.problem).toEqual(JSON.parse(JSON.stringify(why)));
			}),
			{ numRuns: 300 },
		);
	});
});

describe("a server's error, read", () => {
	test.each([
		["of the draft's first example", required, { code: -32042, httpStatus: 402, failure: undefined }],
		["of its refused payment", failed, { code: -32043, failure: { reason: "signature-invalid" }, problem: undefined }],
	])("%s", (_which, error, expected) => {
		const read = parseRpcRefusal(error);
		expect(read).toMatchObject(expected);
		expect(read?.challenges.map((challenge) => challengeFromRpc(challenge).id)).toEqual(
			error.data.challenges.map(({ id }) => id),
		);
	});

	test.each([1000, 99, -1, 204, 304, 200.5, "402", undefined])(
		"has the status of an error, whatever it says: %j",
		(status) => {
			const [challenge] = required.data.challenges;
			const stated = { type: "about:blank", title: "No", status, detail: "" };
			const data = { httpStatus: status, challenges: [challenge], problem: stated };
			const read = parseRpcRefusal({ code: -32042, message: "", data } as never);
			expect(read?.httpStatus).toBe(402);
		},
	);

	test.each([
		[
			"-32042 for a URL to visit, as MCP has it",
			{ code: -32042, message: "", data: { elicitations: [{ url: "https://x" }] } },
		],
		["-32042 without a challenge", { code: -32042, message: "", data: { challenges: [] } }],
		["-32042 without data", { code: -32042, message: "" }],
		["-32602 about other params", { code: -32602, message: "Invalid params", data: { detail: "no" } }],
		["-32601", { code: -32601, message: "Method not found" }],
	])("is none about a payment: %s", (_which, error) => {
		expect(parseRpcRefusal(error)).toBeUndefined();
	});

	test("of any shape never throws", () => {
		fc.assert(
			fc.property(fc.constantFrom(-32042, -32043, -32602, -32603, 1), fc.jsonValue(), (code, data) => {
				parseRpcRefusal({ code, message: "", data });
				parseRpcRefusal({
					code,
					message: "",
					data: { challenges: data, problem: data, failure: data, httpStatus: data },
				});
			}),
			{ numRuns: 500 },
		);
	});
});

describe("a capability object", () => {
	test("maps each method to its intents", () => {
		const offered = [
			{ method: "evm", intent: "session" },
			{ method: "evm", intent: "charge" },
			{ method: "evm", intent: "session" },
			{ method: "stripe", intent: "charge" },
		];
		const capability = paymentCapability(offered);
		expect(capability).toEqual({
			methods: { evm: { intents: ["session", "charge"] }, stripe: { intents: ["charge"] } },
		});
		expect(parsePaymentCapability(capability)).toEqual(capability);
		expect(rangesOfCapability(capability)).toHaveLength(3);
	});

	test("of the draft's example is read", () => {
		const json = { methods: { tempo: { intents: ["charge"] }, stripe: { intents: ["charge"] } } };
		expect(rangesOfCapability(parsePaymentCapability(json))).toEqual([
			{ method: "tempo", intent: "charge", q: 1 },
			{ method: "stripe", intent: "charge", q: 1 },
		]);
	});

	test.each([
		["nothing", undefined],
		["without methods", {}],
		["without intents", { methods: { evm: {} } }],
		["with a name of no method", { methods: { "EVM/x": { intents: ["charge"] } } }],
		["with too many", { methods: { evm: { intents: Array.from({ length: 17 }, (_, i) => `i${i}`) } } }],
	])("that is none says nothing: %s", (_what, json) => {
		expect(parsePaymentCapability(json)).toBeUndefined();
	});

	test("may be said in a notification", () => {
		expect(capabilitiesNotification(paymentCapability([{ method: "evm", intent: "charge" }]))).toEqual({
			jsonrpc: "2.0",
			method: "payment.capabilities",
			params: { methods: { evm: { intents: ["charge"] } } },
		});
	});
});

import { describe, expect, test } from "vitest";
import {
	PROBLEM_CONTENT_TYPE,
	PROBLEM_NAMES,
	parseProblem,
	problem,
	problemStatus,
	problemType,
} from "../../src/protocol/index.ts";

describe("the vocabulary", () => {
	test.each([
		["payment-required", "Payment Required", 402],
		["verification-failed", "Payment Verification Failed", 402],
		["method-unsupported", "Payment Method Unsupported", 400],
		["malformed-credential", "Malformed Credential", 402],
		["session/invalid-signature", "Invalid Signature", 402],
		["session/signer-mismatch", "Signer Mismatch", 402],
		["session/amount-exceeds-deposit", "Amount Exceeds Deposit", 402],
		["session/delta-too-small", "Delta Too Small", 402],
		["session/channel-not-found", "Channel Not Found", 410],
		["session/channel-finalized", "Channel Finalized", 410],
		["session/challenge-not-found", "Challenge Not Found", 402],
		["session/insufficient-balance", "Insufficient Balance", 402],
		["session/transaction-reverted", "Transaction Reverted", 409],
		["session/channel-closing", "Channel Closing", 409],
	] as const)("has %s as the drafts have it", (name, title, status) => {
		const type = `https://paymentauth.org/problems/${name}`;
		expect(problem(name, "why")).toEqual({ type, title, status, detail: "why" });
	});

	test.each([
		["bad-request", "Bad Request", 400],
		["forbidden", "Forbidden", 403],
		["conflict", "Conflict", 409],
		["unprocessable-content", "Unprocessable Content", 422],
		["too-many-requests", "Too Many Requests", 429],
		["content-too-large", "Content Too Large", 413],
		["service-unavailable", "Service Unavailable", 503],
	] as const)("has %s as a plain HTTP condition", (name, title, status) => {
		expect(problem(name, "why")).toEqual({ type: "about:blank", title, status, detail: "why" });
	});

	test("has a status of refusal for every name", () => {
		expect(PROBLEM_NAMES).toHaveLength(24);
		for (const name of PROBLEM_NAMES) {
			expect([400, 402, 403, 409, 410, 413, 422, 429, 503]).toContain(problemStatus(name));
			expect(problem(name, "")).toMatchObject({ type: problemType(name), status: problemStatus(name) });
		}
	});

	test("does not compile with a name that does not exist", () => {
		// @ts-expect-error: this name does not exist.
		const wrong: Parameters<typeof problem>[0] = "session/channel-lost";
		expect(PROBLEM_NAMES).not.toContain(wrong);
	});
});

describe("a problem body", () => {
	test("carries the offending values, amounts as decimal strings", () => {
		const body = problem("session/amount-exceeds-deposit", "Too much.", {
			deposit: 500n,
			channelId: "0xab",
			gone: undefined,
		});
		expect(JSON.stringify(body)).toBe(
			'{"type":"https://paymentauth.org/problems/session/amount-exceeds-deposit","title":"Amount Exceeds Deposit","status":402,"detail":"Too much.","deposit":"500","channelId":"0xab"}',
		);
	});

	test("keeps what its type fixes, whatever the extensions say", () => {
		const careless = { status: 200 } as unknown as Record<string, never>;
		expect(problem("conflict", "why", careless).status).toBe(409);
	});

	test("can be read back", () => {
		const body = problem("session/delta-too-small", "Sign more.", { minVoucherDelta: 10n });
		expect(parseProblem(JSON.parse(JSON.stringify(body)))).toEqual(body);
		expect(parseProblem({ status: 500 })).toEqual({ type: "about:blank", title: "", status: 500, detail: "" });
		for (const other of [undefined, null, "text", [], {}, { status: "402" }])
			expect(parseProblem(other)).toBeUndefined();
	});

	test("has its own media type", () => {
		expect(PROBLEM_CONTENT_TYPE).toBe("application/problem+json");
	});
});

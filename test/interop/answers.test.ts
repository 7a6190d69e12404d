import { Errors, Receipt } from "mppx";
import { describe, expect, it } from "vitest";
import {
	type ChargeReceipt,
	decodeReceipt,
	encodeReceipt,
	PROBLEM_NAMES,
	type ProblemName,
	parseProblem,
	problem,
	problemStatus,
	problemType,
	receiptToJson,
	type SessionReceipt,
} from "../../src/protocol/index.ts";

const CHARGE: ChargeReceipt = {
	method: "evm",
	intent: "charge",
	status: "success",
	timestamp: "2026-01-15T12:05:00Z",
	challengeId: "kM9xPqWvT2nJrHsY4aDfEb",
	chainId: 196,
	reference: `0x${"ab".repeat(32)}`,
	externalId: "order-7",
};

const SESSION: SessionReceipt = {
	method: "evm",
	intent: "session",
	status: "success",
	timestamp: "2026-01-15T12:05:00.250Z",
	challengeId: "kM9xPqWvT2nJrHsY4aDfEb",
	chainId: 196,
	reference: `0x${"cd".repeat(32)}`,
	channelId: `0x${"cd".repeat(32)}`,
	acceptedCumulative: 500n,
	spent: 400n,
	units: 3,
	txHash: `0x${"ef".repeat(32)}`,
};

describe("a receipt", () => {
	it.each([
		["charge", CHARGE],
		["session", SESSION],
	])("of ours is read by mppx with every member, also those it does not know: %s", (_, receipt) => {
		expect(Receipt.deserialize(encodeReceipt(receipt))).toEqual(receiptToJson(receipt));
	});

	it.each([
		["charge", CHARGE],
		["session", SESSION],
	])("written by mppx with the members of the %s draft is read by us", (_, receipt) => {
		const members = receiptToJson(receipt) as Parameters<typeof Receipt.serialize>[0];
		expect(decodeReceipt(Receipt.serialize(Receipt.from(members)))).toEqual(receipt);
	});
});

/** mppx's error classes and, for each, ours of the same type. */
const ERRORS: Readonly<Record<string, ProblemName | undefined>> = {
	MalformedCredentialError: "malformed-credential",
	InvalidChallengeError: "invalid-challenge",
	VerificationFailedError: "verification-failed",
	PaymentExpiredError: "payment-expired",
	PaymentRequiredError: "payment-required",
	PaymentInsufficientError: "payment-insufficient",
	PaymentMethodUnsupportedError: "method-unsupported",
	InsufficientBalanceError: "session/insufficient-balance",
	InvalidSignatureError: "session/invalid-signature",
	SignerMismatchError: "session/signer-mismatch",
	AmountExceedsDepositError: "session/amount-exceeds-deposit",
	DeltaTooSmallError: "session/delta-too-small",
	ChannelNotFoundError: "session/channel-not-found",
	ChannelClosedError: "session/channel-finalized",
	// Types that the drafts do not have.
	InternalPaymentError: undefined,
	PaymentActionRequiredError: undefined,
	InvalidPayloadError: undefined,
	BadRequestError: undefined,
};

/** Types of ours that mppx has no error for. */
const ONLY_OURS: readonly ProblemName[] = [
	"session/challenge-not-found",
	"session/transaction-reverted",
	"session/channel-closing",
];

/** As mppx's server writes it in a body. */
function bodyOf(name: string): Record<string, unknown> {
	const Class = Errors[name as keyof typeof Errors] as unknown as typeof Errors.MalformedCredentialError;
	const body = new Class({ reason: "a reason" }).toProblemDetails("kM9xPqWvT2nJrHsY4aDfEb");
	return JSON.parse(JSON.stringify(body)) as Record<string, unknown>;
}

describe("a problem", () => {
	it.each(Object.entries(ERRORS))(
		"of mppx's %s is read by us with every member, its type and status are those of %s",
		(name, same) => {
			const body = bodyOf(name);
			expect(parseProblem(body)).toEqual(body);
			if (same === undefined) expect(PROBLEM_NAMES.map(problemType)).not.toContain(body.type);
			else expect(body).toMatchObject({ type: problemType(same), status: problemStatus(same) });
		},
	);

	it("of ours has a type that an error of mppx's has, but for the plain HTTP ones and three of sessions", () => {
		const theirs = Object.keys(ERRORS).map((name) => bodyOf(name).type);
		const missing = PROBLEM_NAMES.filter(
			(name) => problemType(name) !== "about:blank" && !theirs.includes(problemType(name)),
		);
		expect(missing).toEqual(ONLY_OURS);
	});

	it("has the same four members first on both sides; mppx adds the challenge's id, and to some a hint", () => {
		const first = (body: object) => Object.keys(body).slice(0, 4);
		const theirs = bodyOf("MalformedCredentialError");
		expect(first(problem("malformed-credential", "No."))).toEqual(first(theirs));
		expect(Object.keys(theirs).slice(4)).toEqual(["hint", "challengeId"]);
	});

	it("is thrown by every error class that mppx has: the table above is whole", () => {
		const classes = Object.entries(Errors).flatMap(([name, value]) =>
			typeof value === "function" && value !== Errors.PaymentError ? [name] : [],
		);
		expect(classes.sort()).toEqual(Object.keys(ERRORS).sort());
	});
});

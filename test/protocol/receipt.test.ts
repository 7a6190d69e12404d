import { describe, expect, test } from "vitest";
import {
	type ChargeReceipt,
	decodeCoreReceipt,
	decodeJson,
	decodeReceipt,
	encodeBase64url,
	encodeJson,
	encodeReceipt,
	receiptToJson,
	type SessionReceipt,
} from "../../src/protocol/index.ts";
import { channelId, hash, thrownBy } from "./support.ts";

const session: SessionReceipt = {
	method: "evm",
	intent: "session",
	status: "success",
	timestamp: "2026-04-01T12:08:30Z",
	reference: channelId,
	challengeId: "kM9xPqWvT2nJrHsY4aDfEb",
	channelId,
	acceptedCumulative: 250000n,
	spent: 237500n,
	chainId: 196,
};
const charge: ChargeReceipt = {
	method: "evm",
	intent: "charge",
	status: "success",
	timestamp: "2026-04-01T12:08:30Z",
	reference: hash,
	challengeId: "kM9xPqWvT2nJrHsY4aDfEb",
	chainId: 196,
};

test("a session receipt has the members of the draft's table, amounts as decimal strings", () => {
	expect(decodeJson(encodeReceipt({ ...session, units: 500, txHash: hash, confirmations: 2 }))).toEqual({
		...session,
		acceptedCumulative: "250000",
		spent: "237500",
		units: 500,
		txHash: hash,
		confirmations: 2,
	});
});

test("a charge receipt has the members of the draft's table, which has no intent", () => {
	const { intent: _, ...table } = charge;
	expect(decodeJson(encodeReceipt({ ...charge, externalId: "order-1" }))).toEqual({ ...table, externalId: "order-1" });
	expect(decodeReceipt(encodeJson(table))).toEqual(charge);
});

describe("a malformed receipt", () => {
	const wire = receiptToJson(session);

	test.each([
		["another status", { ...wire, status: "failed" }],
		["another method", { ...wire, method: "tempo" }],
		["an unknown intent", { ...wire, intent: "lease" }],
		["a reference that is not the channel", { ...wire, reference: hash }],
		["a number for an amount", { ...wire, spent: 1 }],
		["no time", { ...wire, timestamp: "now" }],
		["no challenge", { ...wire, challengeId: "" }],
		["a chain id in a string", { ...wire, chainId: "196" }],
		["a session's members missing", { ...receiptToJson(charge), intent: "session" }],
		["nothing in it", {}],
	])("with %s is refused", (_, json) => {
		expect(thrownBy(() => decodeReceipt(encodeJson(json)))).toMatchObject({
			code: "malformed_receipt",
			reason: "shape",
		});
	});

	test("that is not base64url of a JSON object is refused", () => {
		for (const text of ["", "!", encodeBase64url("[]"), `${encodeReceipt(session)}=`]) {
			expect(thrownBy(() => decodeReceipt(text))).toMatchObject({ code: "malformed_receipt", reason: "encoding" });
		}
	});
});

describe("a receipt of any method (core: Payment-Receipt Header)", () => {
	const core = { method: "invoice", status: "success", timestamp: "2026-04-01T12:08:30Z", reference: "inv_12345" };

	test("is read with what its method adds, and so are ours", () => {
		const added = { ...core, sheets: 3 };
		expect(decodeCoreReceipt(encodeJson(added))).toEqual(added);
		for (const ours of [session, charge])
			expect(decodeCoreReceipt(encodeReceipt(ours))).toMatchObject({ method: "evm", reference: ours.reference });
	});

	test.each([
		["no method", { method: undefined }],
		["a method in capitals", { method: "EVM" }],
		["another status", { status: "failed" }],
		["no time", { timestamp: "yesterday" }],
		["no reference", { reference: 5 }],
	])("is refused with %s", (_, changes) => {
		const { code, reason } = thrownBy(() => decodeCoreReceipt(encodeJson({ ...core, ...changes }))) as {
			code?: string;
			reason?: string;
		};
		expect([code, reason]).toEqual(["malformed_receipt", "shape"]);
	});

	test("is refused when it is not base64url of a JSON object", () => {
		expect(() => decodeCoreReceipt("e30=")).toThrow("not base64url");
	});
});

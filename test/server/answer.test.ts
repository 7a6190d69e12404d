import { expect, it } from "vitest";
import { ownAnswer, storedReceipt, storedResponse } from "../../src/server/answer.ts";
import type { PaymentEngine } from "../../src/server/engine.ts";
import { type AnyReceipt, receiptField, receiptText } from "../../src/server/receipts.ts";
import { id, receipt } from "./store/records.ts";

const SESSION = receipt(1, { units: 2 });
const { timestamp, challengeId, chainId } = SESSION;
const CHARGE: AnyReceipt = {
	method: "evm",
	intent: "charge",
	status: "success",
	timestamp,
	challengeId,
	chainId,
	reference: id(2),
};
const OWN: AnyReceipt = { method: "paper", status: "success", timestamp, reference: "7", note: "theirs" };

it.each([
	["a session", SESSION],
	["a charge", CHARGE],
	["a method of one's own", OWN],
])("an answer paid by %s is kept so that a retry gets the very same receipt (I6)", (_kind, paid) => {
	const head = [
		["content-type", "text/plain"],
		["payment-receipt", "not this one"],
		["date", "now"],
	] as const;
	const kept = storedResponse(201, head, Buffer.from("body"), paid, 4);
	const again = ownAnswer({} as PaymentEngine, [], { kind: "replayed", response: kept }, {});
	expect(again).toEqual({
		status: 201,
		headers: { "content-type": "text/plain", "cache-control": "private", "payment-receipt": receiptField(paid) },
		body: Buffer.from("body"),
	});
	expect(storedReceipt(kept)).toEqual(JSON.parse(receiptText(paid)));
});

it("an answer paid by a session is kept with its receipt as values: as text it would be two thirds of the record", () => {
	const kept = storedResponse(200, [["payment-receipt", "an earlier one"]], null, SESSION, 4);
	expect(kept).toEqual({ status: 200, headers: { "cache-control": "private" }, body: null, receipt: SESSION });
	expect(storedResponse(200, [], null, CHARGE, 4)).not.toHaveProperty("receipt");
});

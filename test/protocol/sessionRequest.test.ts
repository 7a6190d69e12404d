import { describe, expect, test } from "vitest";
import { encodeSessionRequest, parseSessionRequest } from "../../src/protocol/index.ts";
import { channelId, escrow, payee, signer, thrownBy, token, withMember } from "./support.ts";

describe("a session request", () => {
	const full = {
		amount: "100",
		unitType: "llm_token",
		suggestedDeposit: "5000000",
		currency: token,
		recipient: payee,
		description: "tokens",
		externalId: "order-1",
		methodDetails: {
			chainId: 196,
			escrowContract: escrow,
			channelId,
			minVoucherDelta: "10000",
			feePayer: true,
			credentialTypes: ["permit2", "authorization", "hash"],
			permit2Contract: signer,
		},
	};
	const { chainId, escrowContract } = full.methodDetails;
	const least = { amount: "0", currency: token, recipient: payee, methodDetails: { chainId, escrowContract } };

	test("is read and written back as it was", () => {
		for (const wire of [full, least]) expect(encodeSessionRequest(parseSessionRequest(wire))).toEqual(wire);
		expect(parseSessionRequest(full)).toMatchObject({ amount: 100n, suggestedDeposit: 5000000n });
	});

	test("keeps only credential types that a session has, in the server's order", () => {
		const credentialTypes = ["transaction", "hash", "permit2", "later"];
		const methodDetails = { ...least.methodDetails, credentialTypes };
		expect(parseSessionRequest({ ...least, methodDetails }).methodDetails.credentialTypes).toEqual(["hash", "permit2"]);
	});

	test.each([
		["amount", "1.5"],
		["amount", 100],
		["suggestedDeposit", "-1"],
		["currency", "usd"],
		["currency", `${token}00`],
		["recipient", undefined],
		["unitType", 1],
		["methodDetails", undefined],
		["methodDetails.chainId", "196"],
		["methodDetails.chainId", 0],
		["methodDetails.chainId", 1.5],
		["methodDetails.chainId", 2 ** 60],
		["methodDetails.escrowContract", ""],
		["methodDetails.channelId", channelId.toUpperCase()],
		["methodDetails.feePayer", "true"],
		["methodDetails.credentialTypes", "hash"],
	])("is refused when %s is %j", (path, value) => {
		const wire = withMember(full, path.split("."), value);
		expect(thrownBy(() => parseSessionRequest(wire))).toMatchObject({ code: "invalid_request", path });
	});
});

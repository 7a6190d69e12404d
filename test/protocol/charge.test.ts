import { describe, expect, test } from "vitest";
import {
	encodeChargePayload,
	encodeChargeRequest,
	MAX_SPLITS,
	parseChargePayload,
	parseChargeRequest,
} from "../../src/protocol/index.ts";
import { codeOf, hash, pathsOf, payee, payer, signature, signer, thrownBy, token, withMember } from "./support.ts";

const authorization = {
	type: "authorization",
	from: payer,
	to: payee,
	value: "1000000",
	validAfter: "0",
	validBefore: "1743523500",
	nonce: hash,
	signature,
};
const permit2 = {
	type: "permit2",
	permit: { permitted: [{ token, amount: "5" }], nonce: "1", deadline: "1743523500" },
	transferDetails: [{ to: payee, requestedAmount: "5" }],
	witness: { challengeHash: hash, externalId: "order-1" },
	signature,
};

describe("a charge payload", () => {
	test.each([authorization, permit2, { type: "transaction", signature: "0x02f8" }, { type: "hash", hash }])(
		"of type $type is read and written back as it was",
		(wire) => {
			expect(encodeChargePayload(parseChargePayload(wire))).toEqual(wire);
		},
	);

	test("has amounts as bigints and hex in lowercase, whatever case it came in", () => {
		const upper = (text: string) => `0x${text.slice(2).toUpperCase()}`;
		const wire = { ...authorization, from: upper(payer), nonce: upper(hash), signature: upper(signature) };
		expect(parseChargePayload(wire)).toEqual({
			...authorization,
			value: 1000000n,
			validAfter: 0n,
			validBefore: 1743523500n,
		});
	});

	test("has an empty externalId in its witness where none was given", () => {
		const wire = { ...permit2, witness: { challengeHash: hash } };
		expect(parseChargePayload(wire)).toMatchObject({ witness: { externalId: "" } });
	});

	test("is refused when any member of an authorization is missing or wrong", () => {
		for (const name of Object.keys(authorization)) {
			for (const wrong of [undefined, null, 7, "s3cr3t"]) {
				const error = thrownBy(() => parseChargePayload({ ...authorization, [name]: wrong }));
				expect(error).toMatchObject({ code: "invalid_payload", path: name });
				expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("s3cr3t");
			}
		}
	});

	test("is refused when any member of another type is missing or wrong", () => {
		for (const wire of [permit2, { type: "transaction", signature: "0x02f8" }, { type: "hash", hash }]) {
			for (const path of pathsOf(wire)) {
				for (const wrong of [undefined, null, 7, {}, "s3cr3t"]) {
					// A text is what externalId is, and it may be left out.
					if (path.at(-1) === "externalId" && (wrong === undefined || wrong === "s3cr3t")) continue;
					const error = thrownBy(() => parseChargePayload(withMember(wire, path, wrong)));
					expect(error, path.join(".")).toMatchObject({ code: "invalid_payload" });
					expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("s3cr3t");
				}
			}
		}
	});

	test("is refused when permitted and transferDetails differ in length, or nothing is permitted", () => {
		const none = { ...permit2, permit: { ...permit2.permit, permitted: [] }, transferDetails: [] };
		for (const wire of [{ ...permit2, transferDetails: [] }, none]) {
			expect(codeOf(() => parseChargePayload(wire))).toBe("invalid_payload");
		}
	});

	test("is refused when its hex is not whole bytes", () => {
		for (const text of ["0x", "0x0", "02f8", "0xzz"]) {
			expect(codeOf(() => parseChargePayload({ type: "transaction", signature: text }))).toBe("invalid_payload");
		}
	});
});

describe("a charge request", () => {
	const split = { recipient: signer, amount: "50000", memo: "platform fee" };
	const full = {
		amount: "1050000",
		currency: token,
		recipient: payee,
		description: "purchase",
		externalId: "order-1",
		methodDetails: {
			chainId: 1329,
			permit2Address: signer,
			credentialTypes: ["permit2", "authorization", "transaction", "hash"],
			decimals: 6,
			splits: [split],
		},
	};
	const withDetails = (details: object) => ({ ...full, methodDetails: { ...full.methodDetails, ...details } });

	test("is read and written back as it was", () => {
		const least = { amount: "1", currency: token, recipient: payee, methodDetails: { chainId: 1 } };
		for (const wire of [full, least]) expect(encodeChargeRequest(parseChargeRequest(wire))).toEqual(wire);
	});

	test("a charge request is refused when any member of it is missing or wrong", () => {
		const optional = new Set([
			"description",
			"externalId",
			"permit2Address",
			"credentialTypes",
			"decimals",
			"splits",
			"memo",
		]);
		const free = new Set(["description", "externalId", "memo"]);
		for (const path of pathsOf(full)) {
			const name = String(path.at(-1));
			for (const wrong of [undefined, null, 7, {}, "s3cr3t", "0x12"]) {
				if (wrong === undefined && (optional.has(name) || path.includes("credentialTypes"))) continue;
				if (typeof wrong === "string" && (free.has(name) || path.includes("credentialTypes"))) continue;
				if (wrong === 7 && (name === "chainId" || name === "decimals")) continue;
				const error = thrownBy(() => parseChargeRequest(withMember(full, path, wrong)));
				expect(error, `${path.join(".")}: ${JSON.stringify(wrong)}`).toMatchObject({ code: "invalid_request" });
			}
		}
	});

	test("is refused when its splits leave nothing for the recipient", () => {
		const splits = (amount: string) => withDetails({ splits: [split, { ...split, amount }] });
		expect(codeOf(() => parseChargeRequest(splits("999999")))).toBe("nothing was thrown");
		expect(thrownBy(() => parseChargeRequest(splits("1000000")))).toMatchObject({ path: "methodDetails.splits" });
	});

	test.each([
		["no splits in the list", { splits: [] }],
		["too many splits", { splits: Array.from({ length: MAX_SPLITS + 1 }, () => ({ ...split, amount: "1" })) }],
		["a long memo", { splits: [{ ...split, memo: "x".repeat(257) }] }],
		["a negative precision", { decimals: -1 }],
		["a chain id in a string", { chainId: "1329" }],
	])("is refused with %s", (_, details) => {
		expect(codeOf(() => parseChargeRequest(withDetails(details)))).toBe("invalid_request");
	});
});

/**
 * Values for the properties of the codecs. All of them are cheap, since each property runs ten thousand times: a hex text is
 * one drawn number, and what is broken is a sample that is edited.
 */
import fc from "fast-check";
import {
	type Address,
	CHARGE_CREDENTIAL_TYPES,
	type Challenge,
	type ChargePayload,
	type ChargeReceipt,
	type ChargeRequest,
	type Credential,
	encodeJson,
	formatTimestamp,
	type Hex,
	MAX_SPLITS,
	PROBLEM_NAMES,
	type Problem,
	problem,
	SESSION_CREDENTIAL_TYPES,
	type SessionPayload,
	type SessionReceipt,
	type SessionRequest,
	type Source,
	ZERO_ADDRESS,
} from "../../src/protocol/index.ts";

/** Well-formed text of any script, at times with a byte order mark, which decoders like to drop. */
export const anyText = fc
	.tuple(fc.constantFrom("", "", "", "\ufeff"), fc.string({ unit: "grapheme", maxLength: 6 }))
	.map(([mark, text]) => mark + text);

/** Any UTF-16 code units: control characters and lone surrogates too. */
export const hostileText = fc.oneof(
	fc.string({ unit: "binary", maxLength: 40 }),
	fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)), maxLength: 40 }),
);

/** Well-formed text that a header can carry. */
export const headerText = anyText.map((text) => text.replace(/\p{Cc}/gu, ""));

/** The name of a member that a decoder takes: `__proto__` is refused. */
export const memberName = fc.string({ maxLength: 8 }).filter((name) => name !== "__proto__");

/** A JSON object whose values are plain. */
export const flatObjects = fc.dictionary(
	memberName,
	fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.boolean(), fc.constant(null)),
	{ maxKeys: 4, noNullPrototype: true },
);

/** A JSON object of any depth, names and values hostile but for `__proto__` as a name. */
export const jsonObjects: fc.Arbitrary<Record<string, unknown>> = fc
	.dictionary(memberName, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 4, noNullPrototype: true })
	.map((object) => JSON.parse(JSON.stringify(object).replaceAll("__proto__", "proto")));

function hexOf(bytes: number): fc.Arbitrary<Hex> {
	return fc
		.bigInt({ min: 0n, max: (1n << BigInt(bytes * 8)) - 1n })
		.map((value): Hex => `0x${value.toString(16).padStart(bytes * 2, "0")}`);
}

export const addresses: fc.Arbitrary<Address> = hexOf(20);
export const words = hexOf(32);
export const signatures = hexOf(65);
export const uint128s = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });
export const uint256s = fc.bigInt({ min: 0n, max: 2n ** 256n - 1n });
export const chainIds = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const signers = fc.oneof(addresses, fc.constant(ZERO_ADDRESS));

/** Every millisecond that has an RFC 3339 date-time: the years 0 to 9999. */
export const instants = fc.integer({
	min: Date.parse("0000-01-01T00:00:00.000Z"),
	max: Date.parse("9999-12-31T23:59:59.999Z"),
});

export const sources: fc.Arbitrary<Source> = fc.record({ chainId: chainIds, address: addresses }, plain());

/** Challenges that can be written in a header and read back. */
export const challenges: fc.Arbitrary<Challenge> = fc.record(
	{
		id: headerText.filter((id) => id !== ""),
		realm: headerText,
		method: fc.stringMatching(/^[a-z]{1,8}$/),
		intent: fc.stringMatching(/^[A-Za-z0-9-]{1,8}$/),
		request: flatObjects.map(encodeJson),
		expires: headerText,
		digest: headerText,
		description: headerText,
		opaque: headerText,
	},
	plain(["id", "realm", "method", "intent", "request"]),
);

/** Challenges of any text `text` makes: what a payer is sent, and encodes as it is. */
export function challengesOf(text: fc.Arbitrary<string>): fc.Arbitrary<Challenge> {
	return fc.record(
		{
			id: text,
			realm: text,
			method: text,
			intent: text,
			request: text,
			description: text,
			opaque: text,
			digest: text,
			expires: text,
		},
		{ requiredKeys: ["id", "realm", "method", "intent", "request"] },
	);
}

export const credentials: fc.Arbitrary<Credential> = fc.record(
	{ challenge: challenges, payload: jsonObjects, source: anyText },
	plain(["challenge", "payload"]),
);

const eip3009 = fc.record(
	{ from: addresses, to: addresses, value: uint128s, validAfter: uint256s, validBefore: uint256s, nonce: words },
	plain(),
);
const permit2Fields = {
	from: addresses,
	permitted: fc.record({ token: addresses, amount: uint128s }, plain()),
	nonce: uint256s,
	deadline: uint256s,
};
const permit2Open = fc.record(
	{ ...permit2Fields, witness: fc.record({ payee: addresses, salt: words, authorizedSigner: signers }, plain()) },
	plain(),
);
const permit2TopUp = fc.record({ ...permit2Fields, witness: fc.record({ channelId: words }, plain()) }, plain());

const vouchers = fc.record(
	{ action: just("voucher"), channelId: words, cumulativeAmount: uint128s, signature: signatures },
	plain(),
);
const openFields = {
	action: just("open"),
	channelId: words,
	cumulativeAmount: uint128s,
	authorizedSigner: signers,
	salt: words,
	signature: signatures,
};
const topUpFields = { action: just("topUp"), channelId: words, additionalDeposit: uint128s };

/** One arbitrary for each shape of payload that the session draft has. What a payload says twice it says alike. */
export const sessionPayloads: Readonly<Record<string, fc.Arbitrary<SessionPayload>>> = {
	"open by hash": fc.record({ ...openFields, type: just("hash"), hash: words }, plain()),
	"open by authorization": fc.record(
		{ ...openFields, type: just("authorization"), authorization: eip3009, voucherSignature: signatures },
		plain(),
	),
	"open by permit2": fc
		.record({ ...openFields, type: just("permit2"), authorization: permit2Open, voucherSignature: signatures }, plain())
		.map((open) => ({ ...open, ...identityIn(open.authorization) })),
	"topUp by hash": fc.record({ ...topUpFields, type: just("hash"), hash: words }, plain()),
	"topUp by authorization": fc
		.record(
			{ ...topUpFields, type: just("authorization"), salt: words, authorization: eip3009, signature: signatures },
			plain(),
		)
		.map((topUp) => ({ ...topUp, additionalDeposit: topUp.authorization.value })),
	"topUp by permit2": fc
		.record({ ...topUpFields, type: just("permit2"), authorization: permit2TopUp, signature: signatures }, plain())
		.map((topUp) => ({
			...topUp,
			additionalDeposit: topUp.authorization.permitted.amount,
			channelId: topUp.authorization.witness.channelId,
		})),
	voucher: vouchers,
	"voucher with open by authorization": fc.tuple(vouchers, eip3009, words, signers, signatures).map(
		([voucher, authorization, salt, authorizedSigner, signature]): SessionPayload => ({
			...voucher,
			deposit: { action: "open", type: "authorization", authorization, salt, authorizedSigner, signature },
		}),
	),
	"voucher with open by permit2": fc.tuple(vouchers, permit2Open, signatures).map(
		([voucher, authorization, signature]): SessionPayload => ({
			...voucher,
			deposit: { action: "open", type: "permit2", authorization, ...identityIn(authorization), signature },
		}),
	),
	"voucher with topUp by authorization": fc.tuple(vouchers, eip3009, words, signatures).map(
		([voucher, authorization, salt, signature]): SessionPayload => ({
			...voucher,
			deposit: { action: "topUp", type: "authorization", authorization, salt, signature },
		}),
	),
	"voucher with topUp by permit2": fc.tuple(vouchers, permit2TopUp, signatures).map(
		([voucher, authorization, signature]): SessionPayload => ({
			...voucher,
			channelId: authorization.witness.channelId,
			deposit: { action: "topUp", type: "permit2", authorization, signature },
		}),
	),
	close: fc.record(
		{ action: just("close"), channelId: words, cumulativeAmount: uint128s, signature: signatures },
		plain(),
	),
};

function identityIn({ witness }: { readonly witness: { readonly salt: Hex; readonly authorizedSigner: Address } }) {
	return { salt: witness.salt, authorizedSigner: witness.authorizedSigner };
}

const transfers = fc.array(fc.record({ token: addresses, amount: uint256s, to: addresses }, plain()), {
	minLength: 1,
	maxLength: MAX_SPLITS + 1,
});

/** One arbitrary for each type of payload that the charge draft has. */
export const chargePayloads: Readonly<Record<string, fc.Arbitrary<ChargePayload>>> = {
	authorization: fc.record(
		{
			type: just("authorization"),
			from: addresses,
			to: addresses,
			value: uint256s,
			validAfter: uint256s,
			validBefore: uint256s,
			nonce: words,
			signature: signatures,
		},
		plain(),
	),
	permit2: fc.tuple(transfers, uint256s, uint256s, words, anyText, signatures).map(
		([moved, nonce, deadline, challengeHash, externalId, signature]): ChargePayload => ({
			type: "permit2",
			permit: { permitted: moved.map(({ token, amount }) => ({ token, amount })), nonce, deadline },
			transferDetails: moved.map(({ to, amount }) => ({ to, requestedAmount: amount })),
			witness: { challengeHash, externalId },
			signature,
		}),
	),
	transaction: fc
		.uint8Array({ minLength: 1, maxLength: 24 })
		.map((bytes): ChargePayload => ({ type: "transaction", signature: `0x${Buffer.from(bytes).toString("hex")}` })),
	hash: fc.record({ type: just("hash"), hash: words }, plain()),
};

const sharedRequest = {
	amount: uint128s,
	currency: addresses,
	recipient: addresses,
	description: anyText,
	externalId: anyText,
};

export const sessionRequests: fc.Arbitrary<SessionRequest> = fc.record(
	{
		...sharedRequest,
		unitType: anyText,
		suggestedDeposit: uint128s,
		methodDetails: fc.record(
			{
				chainId: chainIds,
				escrowContract: addresses,
				channelId: words,
				minVoucherDelta: uint128s,
				feePayer: fc.boolean(),
				credentialTypes: fc.array(fc.constantFrom(...SESSION_CREDENTIAL_TYPES), { maxLength: 4 }),
				permit2Contract: addresses,
			},
			plain(["chainId", "escrowContract"]),
		),
	},
	plain(["amount", "currency", "recipient", "methodDetails"]),
);

export const chargeRequests: fc.Arbitrary<ChargeRequest> = fc
	.record(
		{
			...sharedRequest,
			amount: uint256s,
			methodDetails: fc.record(
				{
					chainId: chainIds,
					permit2Address: addresses,
					credentialTypes: fc.array(fc.constantFrom(...CHARGE_CREDENTIAL_TYPES), { maxLength: 5 }),
					decimals: fc.integer({ min: 0, max: 255 }),
					splits: fc.array(
						fc.record({ recipient: addresses, amount: uint128s, memo: anyText }, plain(["recipient", "amount"])),
						{ minLength: 1, maxLength: MAX_SPLITS },
					),
				},
				plain(["chainId"]),
			),
		},
		plain(["amount", "currency", "recipient", "methodDetails"]),
	)
	.map((request) => {
		// Splits leave something for the recipient.
		const splits = request.methodDetails.splits?.reduce((sum, { amount }) => sum + amount, 0n) ?? 0n;
		return splits < request.amount ? request : { ...request, amount: splits + 1n };
	});

const sharedReceipt = {
	method: just("evm"),
	status: just("success"),
	timestamp: instants.map(formatTimestamp),
	challengeId: anyText.filter((text) => text !== ""),
	chainId: chainIds,
};

export const sessionReceipts: fc.Arbitrary<SessionReceipt> = fc
	.record(
		{
			...sharedReceipt,
			intent: just("session"),
			reference: words,
			channelId: words,
			acceptedCumulative: uint128s,
			spent: uint128s,
			units: fc.double({ min: 0, noDefaultInfinity: true, noNaN: true }),
			txHash: words,
			confirmations: fc.nat(),
		},
		plain([
			"method",
			"status",
			"timestamp",
			"challengeId",
			"chainId",
			"intent",
			"reference",
			"channelId",
			"acceptedCumulative",
			"spent",
		]),
	)
	.map((receipt) => ({ ...receipt, reference: receipt.channelId }));

export const chargeReceipts: fc.Arbitrary<ChargeReceipt> = fc.record(
	{ ...sharedReceipt, intent: just("charge"), reference: words, externalId: anyText },
	plain(["method", "status", "timestamp", "challengeId", "chainId", "intent", "reference"]),
);

/** Problems with any offending values. */
export const problems: fc.Arbitrary<Problem> = fc
	.tuple(fc.constantFrom(...PROBLEM_NAMES), anyText, jsonObjects)
	.map(([name, detail, { type: _type, title: _title, status: _status, detail: _detail, ...extensions }]) =>
		problem(name, detail, extensions),
	);

function just<const Value>(value: Value): fc.Arbitrary<Value> {
	return fc.constant(value);
}

/** Objects as JSON.parse makes them; members not required come and go. */
function plain(): { noNullPrototype: true };
function plain<const Name extends string>(requiredKeys: Name[]): { noNullPrototype: true; requiredKeys: Name[] };
function plain(requiredKeys?: string[]) {
	return { noNullPrototype: true, ...(requiredKeys && { requiredKeys }) };
}

/** Records for the stores' tests. */
import { pad, toHex } from "viem";
import type { ChannelRecord, HeldChannel, PaymentRecord, ReceiptRecord } from "../../../src/client/store/store.ts";
import type { Challenge } from "../../../src/protocol/index.ts";

export const KEY = "https://api.example.com 1:0xe:0xt:0xp";

export const challenge: Challenge = {
	id: "id",
	realm: "api.example.com",
	method: "evm",
	intent: "session",
	request: "e30",
};

export function id(number: number): `0x${string}` {
	return pad(toHex(number), { size: 32 });
}

type Given = Partial<Pick<ChannelRecord, "key" | "status" | "fundableUntilMs">> &
	Partial<Pick<ChannelRecord["state"], "deposit" | "signed" | "consumed" | "uncertain">>;

export function channel(
	number: number,
	{ key = KEY, status = "open", fundableUntilMs, ...amounts }: Given = {},
): ChannelRecord {
	const address = pad(toHex(number), { size: 20 });
	return {
		key,
		status,
		state: {
			channelId: id(number),
			chainId: 1,
			escrow: address,
			payer: address,
			payee: address,
			token: address,
			authorizedSigner: address,
			salt: id(number),
			deposit: "1000",
			signed: "0",
			consumed: "0",
			uncertain: "0",
			resource: { url: "https://api.example.com/quote", method: "GET" },
			...amounts,
		},
		challenge,
		createdAtMs: 1_700_000_000_000,
		...(fundableUntilMs !== undefined && { fundableUntilMs }),
	};
}

/** The same channel with another amount signed. */
export function signed({ record, fence }: HeldChannel, amount: bigint | number): HeldChannel {
	return { fence, record: { ...record, state: { ...record.state, signed: String(amount) } } };
}

/** A payment that others could broadcast. */
export function payment(number: number): PaymentRecord {
	return { id: id(number), atMs: number, type: "transaction", hash: id(number), nonce: number, raw: "0x5ec7e75ec7e7" };
}

export function receipt(number: number, given: Partial<ReceiptRecord> = {}): ReceiptRecord {
	return {
		kind: "charge",
		atMs: 1_700_000_000_000 + number,
		url: "https://api.example.com/report",
		method: "GET",
		amount: String(number),
		chainId: 1,
		token: "0xt",
		payee: "0xp",
		challenge,
		receipt: { status: "success", number },
		...given,
	};
}

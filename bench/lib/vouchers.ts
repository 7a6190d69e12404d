/** Vouchers as payers send them, signed by libsecp256k1 so that a bench has many of them soon. */
import { createRequire } from "node:module";
import { bytesToHex, type Hex, hexToBytes } from "viem";
import { type Challenge, encodeSessionPayload, formatCredential } from "../../src/protocol/index.ts";
import { createVoucherDomain, type VoucherDomain, voucherDigest } from "../../src/voucher/index.ts";
import type { OpenChannel, Place } from "./stage.ts";

type Native = Readonly<{
	ecdsaSign(digest: Uint8Array, key: Uint8Array): Readonly<{ signature: Uint8Array; recid: number }>;
}>;

const native: Native = createRequire(import.meta.url)("secp256k1");

export function domainOf({ chainId, escrow }: Pick<Place, "chainId" | "escrow">): VoucherDomain {
	return createVoucherDomain(chainId, escrow);
}

/** @returns `r || s || v` as on the wire */
export function signQuickly(
	domain: VoucherDomain,
	{ channelId, signerKey }: Pick<OpenChannel, "channelId" | "signerKey">,
	cumulativeAmount: bigint,
): Hex {
	return signDigest(voucherDigest(domain, { channelId, cumulativeAmount }), signerKey);
}

/** @returns `r || s || v` as on the wire */
export function signDigest(digest: Uint8Array, key: Hex): Hex {
	const { signature, recid } = native.ecdsaSign(digest, hexToBytes(key));
	const bytes = new Uint8Array(65);
	bytes.set(signature);
	bytes[64] = 27 + recid;
	return bytesToHex(bytes);
}

/** The `Authorization` value of a voucher. */
export function voucherHeader(
	domain: VoucherDomain,
	challenge: Challenge,
	channel: Pick<OpenChannel, "channelId" | "signerKey">,
	cumulativeAmount: bigint,
): string {
	const signature = signQuickly(domain, channel, cumulativeAmount);
	const { channelId } = channel;
	const payload = encodeSessionPayload({ action: "voucher", channelId, cumulativeAmount, signature });
	return formatCredential({ challenge, payload });
}

/** What both of mppx's session sides stand on: a channel as its Tempo chain would have it, without the chain. */
import { Session } from "mppx/tempo";
import { createClient, custom, pad, toHex, zeroAddress } from "viem";
import { tempo } from "viem/chains";

const { Channel, Constants } = Session.Precompile;

export const CHAIN_ID = tempo.id;
export const ESCROW = Constants.tip20ChannelEscrow;
export const PAYEE = "0x00000000000000000000000000000000000000a1";
export const TOKEN = "0x00000000000000000000000000000000000000a2";

/** What one request costs, in base units. */
export const PRICE = 100n;

/** No bench comes near it. */
export const DEPOSIT = 10n ** 15n;

/** @returns {import("viem").Client} a client of a chain that nobody may ask anything: what is measured needs no chain */
export function clientWithoutChain() {
	const request = () => Promise.reject(new Error("the chain was asked in what is measured"));
	return createClient({ chain: tempo, transport: custom({ request }, { retryCount: 0 }) });
}

/**
 * The channel of a payer, who signs for it as well.
 *
 * @param {import("viem").Address} payer
 * @param {number} at makes the channel another one than the payer's others
 */
export function channelOf(payer, at) {
	const descriptor = {
		payer,
		payee: PAYEE,
		operator: zeroAddress,
		token: TOKEN,
		salt: pad(toHex(at + 1)),
		authorizedSigner: payer,
		expiringNonceHash: pad(toHex(at + 2)),
	};
	return { descriptor, channelId: Channel.computeId({ ...descriptor, chainId: CHAIN_ID, escrow: ESCROW }) };
}

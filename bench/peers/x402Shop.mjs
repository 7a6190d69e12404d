/** What x402's sides sell and by which channels: its batch settlement, whose facilitator is never needed for a voucher. */
import { x402ResourceServer } from "@x402/core/server";
import { computeChannelId } from "@x402/evm/batch-settlement/client";
import { BatchSettlementEvmScheme, InMemoryChannelStorage } from "@x402/evm/batch-settlement/server";
import { FileChannelStorage } from "@x402/evm/batch-settlement/server/file-storage";
import { numberToHex, pad } from "viem";
import { payerAt } from "./payers.mjs";

export const SCHEME = "batch-settlement";
export const NETWORK = "eip155:8453";

/** What one request costs, in base units. */
export const PRICE = 100n;

const ASSET = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
const PAY_TO = "0x00000000000000000000000000000000000000A1";
const DEPOSIT = 10n ** 15n;

/** How a route says what it costs: in base units of a token that it names, so that nothing has to be looked up. */
export const OFFER = {
	scheme: SCHEME,
	network: NETWORK,
	payTo: PAY_TO,
	price: { amount: PRICE.toString(), asset: ASSET, extra: { name: "USD Coin", version: "2" } },
};

/**
 * x402's server with the payers' channels in its books, as if they had been opened on the chain a moment ago. What it
 * knows of the chain never gets old, so that it verifies every voucher itself.
 *
 * @param {Readonly<{ channels: number, folder?: string }>} options with a folder, its books are files in it; without, they
 *   are in memory
 */
export async function openShop({ channels, folder }) {
	const storage = folder === undefined ? new InMemoryChannelStorage() : new FileChannelStorage({ directory: folder });
	const scheme = new BatchSettlementEvmScheme(PAY_TO, {
		storage,
		// Signs what goes to the chain, and therefore nothing here.
		receiverAuthorizerSigner: payerAt(-1),
		onchainStateTtlMs: Number.POSITIVE_INFINITY,
	});
	const server = new x402ResourceServer(facilitatorUnused()).register(NETWORK, scheme);
	await server.initialize();
	const [requirements] = await server.buildPaymentRequirements(OFFER);
	for (let at = 0; at < channels; at++) {
		const { channelId, channelConfig } = channelOf(requirements, at);
		await storage.updateChannel(channelId, () => ({
			channelId,
			channelConfig,
			chargedCumulativeAmount: "0",
			signedMaxClaimable: "0",
			signature: "0x",
			balance: DEPOSIT.toString(),
			totalClaimed: "0",
			withdrawRequestedAt: 0,
			refundNonce: 0,
			onchainSyncedAt: Date.now(),
			lastRequestTimestamp: Date.now(),
		}));
	}
	return { server, storage, requirements };
}

/**
 * The channel of a payer, under what a server asks for.
 *
 * @param {import("@x402/core/types").PaymentRequirements} requirements
 * @param {number} at which payer
 */
export function channelOf({ network, asset, payTo, extra }, at) {
	const account = payerAt(at);
	const channelConfig = {
		payer: account.address,
		payerAuthorizer: account.address,
		receiver: payTo,
		receiverAuthorizer: extra.receiverAuthorizer,
		token: asset,
		withdrawDelay: extra.withdrawDelay,
		salt: pad(numberToHex(at + 1)),
	};
	return { account, channelConfig, channelId: computeChannelId(channelConfig, network) };
}

/** It knows the scheme, which is all that a server asks at its start. */
function facilitatorUnused() {
	const unused = () => Promise.reject(new Error("the facilitator was asked in what is measured"));
	return {
		getSupported: async () => ({
			kinds: [{ x402Version: 2, scheme: SCHEME, network: NETWORK, extra: {} }],
			extensions: [],
			signers: {},
		}),
		verify: unused,
		settle: unused,
	};
}

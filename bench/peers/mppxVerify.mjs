/**
 * mppx's side of `session-verify`: the server of its Tempo sessions verifies a voucher and accounts for it, in its own store
 * in memory (`Store.memory`).
 *
 * Measured is `broadcast` of the method that `tempo.session` makes, which is the least that does both: it derives the
 * channel's id, compares the channel with the store's, verifies the signature, keeps the voucher and takes the price
 * from what it pays for. In this it is spared much that Sluice's side does:
 * - the header is parsed ahead, and that its challenge is the server's own is not checked;
 * - mppx itself calls `validate` before `broadcast` (its `verify` is the two together), which verifies the same
 *   signature a second time. `{ whole: true }` measures that, for comparison alone: it takes about twice as long;
 * - a channel is never read again from the chain: `channelStateTtl` is endless.
 */
import { Credential } from "mppx";
import { Mppx, Store, tempo } from "mppx/server";
import { Session } from "mppx/tempo";
import { serveSide } from "../lib/side.ts";
import { CHAIN_ID, channelOf, clientWithoutChain, DEPOSIT, ESCROW, PAYEE, PRICE, TOKEN } from "./mppxSession.mjs";
import { oneByOne } from "./oneByOne.mjs";
import { payerAt } from "./payers.mjs";

/**
 * @typedef {Readonly<{ channels: number }>} Start
 * @typedef {Readonly<{ count: number, whole?: boolean }>} Order
 * @typedef {Readonly<Record<string, never>>} Info
 */

const { Voucher } = Session.Precompile;

serveSide(async (/** @type {Start} */ { channels: many }) => {
	const client = clientWithoutChain();
	const store = Store.memory();
	const method = tempo.session({
		amount: PRICE.toString(),
		decimals: 0,
		unitType: "request",
		chainId: CHAIN_ID,
		currency: TOKEN,
		recipient: PAYEE,
		store,
		getClient: () => client,
		channelStateTtl: Number.POSITIVE_INFINITY,
	});
	const mppx = Mppx.create({
		methods: [method],
		realm: "bench.local",
		secretKey: "of the bench, and secret to nobody",
	});
	const challenge = await mppx.challenge.tempo.session({});
	const channels = Array.from({ length: many }, (_, at) => {
		const account = payerAt(at);
		return { account, signed: 0n, ...channelOf(account.address, at) };
	});
	for (const { channelId, descriptor } of channels) {
		await store.put(channelId, {
			...descriptor,
			backend: "precompile",
			channelId,
			chainId: CHAIN_ID,
			escrowContract: ESCROW,
			descriptor,
			closeRequestedAt: 0n,
			deposit: DEPOSIT,
			settledOnChain: 0n,
			highestVoucherAmount: 0n,
			highestVoucher: null,
			spent: 0n,
			units: 0,
			finalized: false,
			createdAt: new Date().toISOString(),
		});
	}
	const capturedRequest = {
		method: "GET",
		url: new URL("http://bench.local/verify"),
		headers: new Headers(),
		hasBody: false,
	};
	let next = 0;

	async function sign() {
		const channel = channels[next++ % channels.length];
		const { account, channelId, descriptor } = channel;
		channel.signed += PRICE;
		const voucher = { channelId, cumulativeAmount: channel.signed };
		const signature = await Voucher.signVoucher(client, account, voucher, ESCROW, CHAIN_ID);
		const cumulativeAmount = channel.signed.toString();
		const payload = { action: "voucher", channelId, descriptor, cumulativeAmount, signature };
		const source = `did:pkh:eip155:${CHAIN_ID}:${account.address}`;
		// As it comes out of a header.
		const credential = Credential.deserialize(Credential.serialize({ challenge, payload, source }));
		const { request } = credential.challenge;
		const envelope = { capturedRequest, challenge: credential.challenge, credential, request };
		return { cumulativeAmount, parameters: { credential, envelope, request } };
	}

	return {
		info: {},
		async round(/** @type {Order} */ { count, whole = false }) {
			const vouchers = [];
			for (let made = 0; made < count; made++) vouchers.push(await sign());
			const accept = whole ? method.verify : method.broadcast;
			return oneByOne(vouchers, async ({ cumulativeAmount, parameters }) => {
				const { spent } = await accept(parameters);
				if (spent !== cumulativeAmount) throw new Error(`mppx has taken ${spent}, not ${cumulativeAmount}`);
			});
		},
	};
});

/**
 * mppx's side of `client-sign`: its client builds and signs the `Authorization` value of one voucher after the other, on one
 * channel, for a challenge that it has parsed once.
 *
 * Measured is `createCredential` of the method that `session` of `mppx/tempo` makes, with an account of viem's in memory: it
 * finds the open channel in its store, adds the price, derives the channel's id, signs, stores the channel and builds the
 * header. Choosing the challenge from a response and sending the request are left out.
 */
import { Challenge, Credential } from "mppx";
import { Mppx, tempo } from "mppx/server";
import { Session } from "mppx/tempo";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { serveSide } from "../lib/side.ts";
import { CHAIN_ID, channelOf, clientWithoutChain, DEPOSIT, ESCROW, PAYEE, PRICE, TOKEN } from "./mppxSession.mjs";
import { oneByOne } from "./oneByOne.mjs";

/**
 * @typedef {Readonly<Record<string, never>>} Start
 * @typedef {Readonly<{ count: number }>} Order
 * @typedef {Readonly<Record<string, never>>} Info
 */

const { Client, Precompile } = Session;

/** So many headers does it take until they are built at the speed that they keep. */
const WARM_UP = 1_000;

serveSide(async () => {
	const client = clientWithoutChain();
	const getClient = () => client;
	const price = { amount: PRICE.toString(), decimals: 0, unitType: "request" };
	const server = Mppx.create({
		methods: [tempo.session({ ...price, chainId: CHAIN_ID, currency: TOKEN, recipient: PAYEE, getClient })],
		realm: "bench.local",
		secretKey: "of the bench, and secret to nobody",
	});
	// As it comes out of a 402.
	const challenge = Challenge.deserialize(Challenge.serialize(await server.challenge.tempo.session({})));
	const account = privateKeyToAccount(generatePrivateKey());
	const { channelId, descriptor } = channelOf(account.address, 0);
	const channelStore = Client.createChannelStore();
	const method = Client.session({ account, getClient, channelStore });
	await channelStore.set({
		channelId,
		descriptor,
		chainId: CHAIN_ID,
		escrow: ESCROW,
		deposit: DEPOSIT,
		cumulativeAmount: 0n,
		opened: true,
	});
	for (let made = 0; made < WARM_UP; made++) await method.createCredential({ challenge });
	let signed = BigInt(WARM_UP) * PRICE;

	return {
		info: {},
		async round(/** @type {Order} */ { count }) {
			let last = "";
			const measured = await oneByOne(Array.from({ length: count }), async () => {
				last = await method.createCredential({ challenge });
			});
			signed += BigInt(count) * PRICE;
			const { payload } = Credential.deserialize(last);
			if (payload.cumulativeAmount !== signed.toString())
				throw new Error(`mppx has signed ${payload.cumulativeAmount}, not ${signed}`);
			const voucher = { channelId, cumulativeAmount: signed, signature: payload.signature };
			if (!Precompile.Voucher.verifyVoucher(ESCROW, CHAIN_ID, voucher, account.address))
				throw new Error("mppx has signed something else");
			return measured;
		},
	};
});

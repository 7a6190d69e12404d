/**
 * mppx's side of `charge-verify`: the server of its EVM charges verifies an ERC-3009 authorization.
 *
 * Measured is `validate` of the method that `evm.charge` makes: it compares recipient, amount, times and the nonce, which is
 * the challenge's hash, and verifies the signature. It asks no chain, remembers nothing and settles nothing; the header is
 * parsed ahead, and that its challenge is the server's own is not checked.
 */
import { Credential } from "mppx";
import { evm as evmClient } from "mppx/client";
import { evm as evmServer, Mppx } from "mppx/server";
import { serveSide } from "../lib/side.ts";
import { AMOUNT, CHAIN_ID, PAYEE, TOKEN, TOKEN_DOMAIN } from "./chargeAuthorizations.mjs";
import { oneByOne } from "./oneByOne.mjs";
import { payerAt } from "./payers.mjs";

/**
 * @typedef {Readonly<Record<string, never>>} Start
 * @typedef {Readonly<{ count: number }>} Order
 * @typedef {Readonly<Record<string, never>>} Info
 */

serveSide(async () => {
	const method = evmServer.charge({
		amount: AMOUNT,
		decimals: 0,
		chainId: CHAIN_ID,
		currency: TOKEN,
		recipient: PAYEE,
		authorization: TOKEN_DOMAIN,
		settle: () => Promise.reject(new Error("a charge was settled in what is measured")),
	});
	const mppx = Mppx.create({
		methods: [method],
		realm: "bench.local",
		secretKey: "of the bench, and secret to nobody",
	});
	let next = 0;

	async function sign() {
		const account = payerAt(next++);
		const challenge = await mppx.challenge.evm.charge({ amount: AMOUNT });
		const payer = evmClient.charge({ account, authorization: TOKEN_DOMAIN });
		return Credential.deserialize(await payer.createCredential({ challenge }));
	}

	return {
		info: {},
		async round(/** @type {Order} */ { count }) {
			const credentials = [];
			for (let made = 0; made < count; made++) credentials.push(await sign());
			return oneByOne(credentials, async (credential) => {
				await method.validate({ credential, request: credential.challenge.request });
			});
		},
	};
});

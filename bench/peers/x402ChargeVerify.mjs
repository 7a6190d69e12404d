/**
 * x402's side of `charge-verify`: its facilitator verifies an ERC-3009 authorization of the `exact` scheme.
 *
 * Measured is `verify` of `ExactEvmScheme`: it compares recipient, amount and times, verifies the signature, and asks the
 * chain whether the payer is a contract and whether the transfer would succeed. That cannot be switched off in `verify`,
 * so the chain is one that answers at once, in memory, and without counting: neither is it in the way nor does it help.
 */
import { ExactEvmScheme as ExactClient } from "@x402/evm/exact/client";
import { ExactEvmScheme as ExactFacilitator } from "@x402/evm/exact/facilitator";
import { isAddressEqual } from "viem";
import { serveSide } from "../lib/side.ts";
import { AMOUNT, CHAIN_ID, PAYEE, TOKEN, TOKEN_DOMAIN } from "./chargeAuthorizations.mjs";
import { oneByOne } from "./oneByOne.mjs";
import { payerAt } from "./payers.mjs";

/**
 * @typedef {Readonly<Record<string, never>>} Start
 * @typedef {Readonly<{ count: number }>} Order
 * @typedef {Readonly<Record<string, never>>} Info
 */

const REQUIREMENTS = {
	scheme: "exact",
	network: `eip155:${CHAIN_ID}`,
	asset: TOKEN,
	amount: AMOUNT,
	payTo: PAYEE,
	maxTimeoutSeconds: 300,
	extra: TOKEN_DOMAIN,
};

serveSide(async () => {
	const unused = () => Promise.reject(new Error("the chain was written to in what is measured"));
	const facilitator = new ExactFacilitator({
		getAddresses: () => [PAYEE],
		getCode: async ({ address }) => (isAddressEqual(address, TOKEN) ? "0x60" : undefined),
		readContract: async () => undefined,
		verifyTypedData: unused,
		writeContract: unused,
		sendTransaction: unused,
		waitForTransactionReceipt: unused,
	});
	let next = 0;

	async function sign() {
		const client = new ExactClient(payerAt(next++));
		const { x402Version, payload } = await client.createPaymentPayload(2, REQUIREMENTS);
		return { x402Version, accepted: REQUIREMENTS, payload };
	}

	return {
		info: {},
		async round(/** @type {Order} */ { count }) {
			const payments = [];
			for (let made = 0; made < count; made++) payments.push(await sign());
			return oneByOne(payments, async (payment) => {
				const { isValid, invalidReason } = await facilitator.verify(payment, REQUIREMENTS);
				if (!isValid) throw new Error(`x402 refuses a charge: ${invalidReason}`);
			});
		},
	};
});

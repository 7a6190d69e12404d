/** A chain with an escrow, a payer with funds, and what tests of the payee's side do all the time. */
import { type Hex, type LocalAccount, type TransactionReceipt, zeroAddress } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { approveCall, type Call, openCall } from "../../src/escrow/calls.ts";
import type { SettlementRow } from "../../src/escrow/payeeCalls.ts";
import { type EscrowChannel, readBalance, readChannel } from "../../src/escrow/reads.ts";
import { revertReason } from "../../src/escrow/reverts.ts";
import { computeChannelId, createVoucherDomain, signVoucher, type VoucherDomain } from "../../src/voucher/index.ts";
import { createStage, type Stage, sendAs, setBalance } from "./support.ts";

/** What is in each new channel, in base units. */
export const DEPOSIT = 500n;

export type Account = Parameters<typeof sendAs>[1];

export type PayeeStage = Stage &
	Readonly<{
		domain: VoucherDomain;
		/** Neither payer nor payee of anything; has gas. */
		relayer: Account;
		/** A new account; `gas` if it is to send transactions of its own. */
		payee(options?: Readonly<{ gas?: boolean }>): Promise<Account>;
		/** A new channel with `DEPOSIT` for a payee. */
		open(payee: Account): Promise<Hex>;
		/** A voucher signed by the payer. */
		voucher(channelId: Hex, cumulativeAmount: bigint): Promise<SettlementRow>;
		send(call: Call, from: Account): Promise<TransactionReceipt>;
		/** Why the chain refuses a call by `from`. */
		refusal(call: Call, from: LocalAccount): Promise<string | undefined>;
		/** Base units of the token. */
		balance(of: LocalAccount): Promise<bigint>;
		channel(channelId: Hex): Promise<EscrowChannel | undefined>;
	}>;

export async function createPayeeStage(): Promise<PayeeStage> {
	const stage = await createStage();
	const { chain, escrow, token, payer } = stage;
	const { client, chainId } = chain;
	const domain = createVoucherDomain(chainId, escrow);
	const send = (call: Call, from: Account) => sendAs(chain, from, call);
	await send(approveCall(token, escrow, 2n ** 128n), payer);
	let salts = 0;
	return {
		...stage,
		domain,
		relayer: chain.account(7),
		async payee({ gas = false } = {}) {
			const account = privateKeyToAccount(generatePrivateKey());
			if (gas) await setBalance(client, account.address, 10n ** 18n);
			return account;
		},
		async open(payee) {
			const salt: Hex = `0x${(++salts).toString(16).padStart(64, "0")}`;
			const channel = { payee: payee.address, token, salt, authorizedSigner: zeroAddress };
			await send(openCall(escrow, { ...channel, deposit: DEPOSIT }), payer);
			return computeChannelId({ ...channel, payer: payer.address, escrow, chainId });
		},
		async voucher(channelId, cumulativeAmount) {
			const signature = await signVoucher(payer, domain, { channelId, cumulativeAmount });
			return { channelId, cumulativeAmount, signature };
		},
		send,
		async refusal({ to, data }, from) {
			try {
				await client.estimateGas({ account: from, to, data });
			} catch (error) {
				return revertReason(error);
			}
			throw new Error("the call went through");
		},
		balance: (of) => readBalance(client, token, of.address),
		channel: (channelId) => readChannel(client, escrow, channelId),
	};
}

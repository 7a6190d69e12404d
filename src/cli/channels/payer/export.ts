import type { Hex } from "viem";
import { evidence } from "../../../client/recovery/evidence.ts";
import type { Run } from "../../shared/command.ts";
import { EXIT, type ExitCode } from "../../shared/exit.ts";
import { type PayerOptions, walletFolder } from "../../shared/payer.ts";
import { readPayerKey } from "../../shared/payerKey.ts";
import { confirmVouchers } from "../confirm.ts";
import { withWallet } from "./open.ts";

export type PayerExportOptions = PayerOptions & Readonly<{ withVouchers?: boolean; yes?: boolean }>;

/**
 * Writes the evidence of channels: one document where one channel is named, else all of them as a list. What the chain says is
 * in it where an RPC is given; the vouchers' signatures where they are asked for.
 */
export async function exportEvidence(
	run: Run,
	channelIds: readonly Hex[],
	options: PayerExportOptions,
): Promise<ExitCode> {
	const { withVouchers = false } = options;
	if (withVouchers) await confirmVouchers(run, SIGNATURES_WARNING, options);
	return withWallet(run, options, channelIds, async ({ parts, listed }) => {
		const chosen = channelIds.length > 0 ? channelIds : listed.map(({ record }) => record.state.channelId);
		const records = listed.map(({ record }) => record).filter(({ state }) => chosen.includes(state.channelId));
		const needsKey =
			withVouchers && records.some(({ sessionKey, state }) => sessionKey === undefined && state.signed !== "0");
		const signers = needsKey ? [(await readPayerKey(run, options, walletFolder(run, options))).account] : [];
		const documentOf = (channelId: Hex) => evidence({ ...parts, signers }, channelId, { withVoucher: withVouchers });
		const [only] = channelIds;
		if (channelIds.length === 1 && only !== undefined) {
			await run.out.line(JSON.stringify(await documentOf(only)));
			return EXIT.done;
		}
		async function* documents() {
			for (const channelId of chosen) yield await documentOf(channelId);
		}
		await run.out.jsonList("channels", documents(), () => ({ count: chosen.length }));
		return EXIT.done;
	});
}

const SIGNATURES_WARNING =
	"the vouchers' signatures will be written out: until a channel is paid out, whoever has one can spend what its server has accepted and not delivered. Keep the file as you keep the wallet";

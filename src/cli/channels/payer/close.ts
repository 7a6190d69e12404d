import type { Hex } from "viem";
import { ChannelInUseError, ChannelUnknownError } from "../../../client/recovery/held.ts";
import { readChannel } from "../../../escrow/reads.ts";
import type { Run } from "../../shared/command.ts";
import { type ExitCode, UsageError } from "../../shared/exit.ts";
import { type OpenPayer, openPayer, type PayerOptions } from "../../shared/payer.ts";
import { type WorkRow, workOn, writeWork } from "./report.ts";

export type PayerCloseOptions = PayerOptions & Readonly<{ all?: boolean }>;

/** Has channels closed by their servers, with what was consumed: named ones, or all that are open. */
export async function closePayerChannels(
	run: Run,
	channelIds: readonly Hex[],
	options: PayerCloseOptions,
): Promise<ExitCode> {
	const { all = false } = options;
	if (all === channelIds.length > 0) throw new UsageError("which channels? Name them, or give --all");
	const opened = await openPayer(run, options);
	try {
		const listed = await opened.store.list({ isClosed: false });
		const open = listed.filter(({ record }) => record.status === "open").map(({ record }) => record.state.channelId);
		const rows = await workOn(run, all ? open : channelIds, options.rpc, (channelId) => closeOne(opened, channelId));
		const left = rows.filter(({ outcome }) => outcome === "failed").map(({ channelId }) => channelId);
		if (left.length > 0)
			run.say(
				`where a server does not close a channel, \`sluice channels request-close ${left.join(" ")}\` gets the deposit back without it`,
			);
		return await writeWork(run, rows);
	} finally {
		await opened.close();
	}
}

/** The channel is not one that its server can close. */
class NotOpenError extends Error {
	override readonly name = "NotOpenError";
	readonly code = "NOT_OPEN";
	constructor(channelId: Hex) {
		super(
			`no voucher is signed for channel ${channelId} any more; \`sluice channels request-close ${channelId}\` gets its deposit back`,
		);
	}
}

async function closeOne({ payer, store, clients }: OpenPayer, channelId: Hex): Promise<WorkRow> {
	const [closed] = await payer.close(channelId);
	const after = (await store.list()).find(({ record }) => record.state.channelId === channelId);
	if (after === undefined) throw new ChannelUnknownError(channelId);
	const { status, state } = after.record;
	if (closed === undefined && status !== "closed") {
		// This command holds it itself, and its server has never opened it.
		if (payer.channels.some((channel) => channel.channelId === channelId)) return { channelId, outcome: "unopened" };
		if (after.isHeld) throw new ChannelInUseError(channelId);
		if (status === "open") return { channelId, outcome: "unopened" };
		throw new NotOpenError(channelId);
	}
	const client = clients.get(state.chainId);
	const onChain = client && (await readChannel(client, state.escrow, channelId));
	const hash = closed?.receipt.txHash;
	return {
		channelId,
		outcome: "closed",
		...(onChain && {
			deposit: String(onChain.deposit),
			settled: String(onChain.settled),
			refund: String(onChain.deposit - onChain.settled),
		}),
		...(hash !== undefined && { hash }),
	};
}

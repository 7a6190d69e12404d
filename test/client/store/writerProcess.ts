/** A payer's process: signs for one channel as fast as it can, and says on its output what it was told is on disk. */
import { Level } from "level";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { channel, id, receipt, signed } from "./records.ts";

const AT_ONCE = 8;

const [folder = ""] = process.argv.slice(2);
const store = await LevelPayerStore.open({ db: new Level<string, string>(folder) });
const held = (await store.takeById(id(1), 20_000)) ?? (await store.add(channel(1), 1));
if (held === undefined) throw new Error("no channel");
let last = BigInt(held.record.state.signed);

async function signOn(): Promise<void> {
	for (;;) {
		const amount = ++last;
		await store.write({ channel: signed(held as NonNullable<typeof held>, amount), counters: [{ key: "x", add: 1n }] });
		process.stdout.write(`${amount}\n`);
		await store.note(receipt(Number(amount), { kind: "voucher", channelId: id(1) }));
	}
}
await Promise.all(Array.from({ length: AT_ONCE }, signOn));

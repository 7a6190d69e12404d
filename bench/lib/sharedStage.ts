import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { type Stage, setStage } from "./stage.ts";

/** Stages that outlive the benches that use them. */
export type SharedStages = Readonly<{
	/** As `setStage`, but a stage that is there already is used again. It must not be in use: benches run one after the other. */
	setStage: typeof setStage;
	/** Stops them all. */
	stop(): Promise<void>;
}>;

/**
 * Shares stages between benches whose books are their own and which leave the chain as it is: each gets a folder of its
 * own, and stopping its stage stops nothing. A bench that settles or closes sets a stage for itself.
 *
 * @example
 * const stages = shareStages();
 * const stage = await stages.setStage({ channels: 200, deposit: 10n ** 12n });
 * await stages.stop();
 */
export function shareStages(): SharedStages {
	const stages: Stage[] = [];
	return {
		async setStage({ channels: count, deposit }) {
			const fits = ({ place: { channels } }: Stage) => channels.length >= count && channels[0]?.deposit === deposit;
			let stage = stages.find(fits);
			if (stage === undefined) {
				stage = await setStage({ channels: count, deposit });
				stages.push(stage);
			}
			const { place, folder } = stage;
			return {
				place: { ...place, channels: place.channels.slice(0, count) },
				folder: await mkdtemp(join(folder, "bench-")),
				stop: async () => undefined,
			};
		},
		async stop() {
			await Promise.all(stages.splice(0).map((stage) => stage.stop()));
		},
	};
}

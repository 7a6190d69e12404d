import type { PieceSource } from "./source.ts";

/** A source that does something before its end is told, or when it fails or is let go of. */
export function lastly({ next, cancel }: PieceSource, work: () => Promise<void>): PieceSource {
	return {
		async next() {
			try {
				const result = await next();
				if (result.done) await work();
				return result;
			} catch (error) {
				await work();
				throw error;
			}
		},
		cancel(reason) {
			cancel(reason);
			void work();
		},
	};
}

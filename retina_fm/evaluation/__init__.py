"""The paper's protocols: what is drawn, judged, compared and reported."""
